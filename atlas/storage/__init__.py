"""Where an atlas is kept, and how nothing half-written is ever visible.

protocol.py     what readers and writers need of a place, and of a store of objects
local.py        a folder of this machine
opening.py      the storage that a path or an address names
addresses.py    `scheme://...` and what may stand in one
s3.py           an atlas at s3://bucket/prefix
s3_client.py    the S3 client, and which of its failures are retried
retries.py      the retry loop, for policies
commit.py       a file written once, or replaced as a whole
packs.py        many small documents of a store in one object
scratch.py      folders of this machine to work in, and local copies of files
"""
