"""JavaScript that pages and notebooks carry: made by scripts/build-web, never fetched when a page is shown.

assets.py   the library that draws structures in 3D, as text that a <script> element may hold
vendor/     made by scripts/build-web: the library, the explorer's page (web/explorer), and the licences of both;
            missing where that was not run
"""
