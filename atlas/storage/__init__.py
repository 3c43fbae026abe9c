"""The folder or store that an atlas is in. No reader ever sees a file that is only partly written.

protocol.py     what readers and writers need of a folder, and of a store of objects
local.py        an atlas in a local folder
opening.py      the storage that a path or an address names
addresses.py    parsing of `scheme://...`
s3.py           an atlas at s3://bucket/prefix
s3_client.py    the S3 client, and which of its failures are retried
retries.py      the retry loop, with a policy for each kind of server
commit.py       files that are written once, or replaced as a whole
packs.py        many small documents of a store in one object
scratch.py      temporary local folders, and local copies of files
"""
