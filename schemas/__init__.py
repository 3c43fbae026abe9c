"""What the data are: records, tables, the manifest and the exceptions.

Every other folder may import this one; this one imports none of them.
"""
