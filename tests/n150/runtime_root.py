"""A runtime root of the installed ttnn with another kernel compiler: where TTNN finds its own files, by links, and a compiler of ours. The installed
ttnn is not touched, so that no real card can meet that compiler."""
import importlib.util
import re
import shutil
from pathlib import Path


def package() -> Path:
    """The installed ttnn, without importing it."""
    spec = importlib.util.find_spec("ttnn")
    if spec is None or spec.origin is None:
        raise ImportError("ttnn is not installed")
    return Path(spec.origin).parent


def make(root: Path, compiler: Path) -> Path:
    """Makes `root`, with the files of the folder `compiler` as TTNN's compiler. Returns the compiler's place in it."""
    ttnn = package()
    place = root / "runtime/sfpi/compiler/bin"
    place.parent.mkdir(parents=True)
    for entry in ttnn.iterdir():
        if entry.name != "runtime":
            (root / entry.name).symlink_to(entry)
    for entry in (ttnn / "runtime").iterdir():
        if entry.name != "sfpi":
            (root / "runtime" / entry.name).symlink_to(entry)
    shutil.copytree(compiler, place)
    release = dict(re.findall(r"^sfpi_(\w+)='(.*)'$", (ttnn / "tt_metal/sfpi-version").read_text(), re.MULTILINE))
    (place / "release").write_text(f"{release['version']}[{release['build']}]")
    return place
