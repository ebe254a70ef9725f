"""A simulated n150: TTNN with its real kernels, compiled by compiler/ or by Tenstorrent's own compiler where it is installed beside the wheel, on a
functional simulator of the chip that the user brings. Nothing here imports ttnn: it makes the environment of child processes."""
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))

import runtime_root  # noqa: E402

COMPILER = HERE / "compiler"
GCC = "riscv64-unknown-elf-g++"


class Missing(Exception):
    """What the lane needs is not there; the text says what to do."""


def cache() -> Path:
    """Tessera's cache: compiled kernels are kept there."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("TESSERA_CACHE") or Path(base) / "tessera")


def find_simulator() -> Path:
    """libttsim_wh.so, which TT_METAL_SIMULATOR names."""
    named = os.environ.get("TT_METAL_SIMULATOR")
    if not named:
        raise Missing("no simulator: set TT_METAL_SIMULATOR to a libttsim_wh.so of Tenstorrent's ttsim (docs/simulated_card.md)")
    if not Path(named).is_file():
        raise Missing(f"TT_METAL_SIMULATOR names {named}, which is no file: set it to a libttsim_wh.so (docs/simulated_card.md)")
    return Path(named).resolve()


def environment(simulator: Path | None, folder: Path) -> dict[str, str]:
    """For processes that open the simulated card, or, without a simulator, a mock card whose kernels are compiled all the same. Their logs go to
    `folder`. Raises Missing."""
    try:
        ttnn = runtime_root.package()
    except ImportError as error:
        raise Missing(f"{error}: run scripts/setup sim") from error
    if shutil.which(GCC) is None:
        raise Missing(f"{GCC} is not there: run scripts/setup sim")
    home = kept_home(ttnn)
    told = {
        "TT_METAL_RUNTIME_ROOT": str(home / "runtime_root"),
        "TT_METAL_CACHE": str(home / "kernels"),
        "TT_METAL_MOCK_CLUSTER_DESC_PATH": str(HERE.parent / "mock/n150.yaml"),
        "TT_METAL_DISABLE_SFPLOADMACRO": "1",  # macros of vector instructions are recorded by the real compiler's scheduler only
        "TT_METAL_LOGS_PATH": str(folder),
        "TT_LOGGER_LEVEL": "off",
        "LOGURU_LEVEL": "ERROR",
        "OMP_NUM_THREADS": "1",
    }
    if has_real_compiler(ttnn):
        del told["TT_METAL_RUNTIME_ROOT"]
    if simulator:  # it wants the description of the chip beside it
        (folder / simulator.name).symlink_to(simulator)
        shutil.copy(ttnn / "tt_metal/soc_descriptors/wormhole_b0_80_arch.yaml", folder / "soc_descriptor.yaml")
        told["TT_METAL_SIMULATOR"] = str(folder / simulator.name)
    kept = {name: value for name, value in os.environ.items() if name != "TT_METAL_SIMULATOR"}
    return {**kept, **told}


def wolfpine_environment(folder: Path) -> dict[str, str]:
    """For processes whose card is wolfpine's, a simulator in Python. Raises Missing."""
    found = importlib.util.find_spec("framework.sim.wormhole")
    if found is None or found.origin is None:
        raise Missing("wolfpine is not there: run scripts/setup sim")
    place = folder / "wolfpine"
    shutil.copytree(HERE / "wolfpine", place)
    shutil.copy(Path(found.origin).parent / "soc_descriptor.yaml", place)
    told = environment(None, folder)
    del told["TT_METAL_MOCK_CLUSTER_DESC_PATH"]
    return {**told, "TT_METAL_SIMULATOR": str(place), "TT_METAL_SLOW_DISPATCH_MODE": "1", "WOLFPINE_PYTHON": sys.executable}


def has_real_compiler(ttnn: Path) -> bool:
    return (ttnn / "runtime/sfpi/compiler/bin/riscv-tt-elf-g++").exists()


def kept_home(ttnn: Path) -> Path:
    """The folder of a runtime root and its compiled kernels, for these very files of the compiler, this ttnn and this GCC."""
    content = hashlib.sha256((ttnn / "tt_metal/sfpi-version").read_bytes() + str(ttnn).encode())
    content.update(subprocess.run([GCC, "--version"], capture_output=True, check=True).stdout)
    for file in sorted(path for path in COMPILER.rglob("*") if path.is_file()):
        content.update(file.relative_to(COMPILER).as_posix().encode() + file.read_bytes())
    home = cache() / "simulated_card" / content.hexdigest()[:16]
    if not home.exists():
        home.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=home.parent))
        compile_objects(runtime_root.make(made / "runtime_root", COMPILER), ttnn)
        try:
            made.rename(home)
        except OSError:  # another process was quicker
            shutil.rmtree(made)
    return home


def compile_objects(place: Path, ttnn: Path) -> None:
    """What every kernel is linked with. The wheel has it as bytecode of the real compiler, and as sources."""
    metal = ttnn / "tt_metal"
    hardware = metal / "hw/inc/internal/tt-1xx"
    folders = [ttnn, metal, metal / "hw/inc", metal / "hostdevcommon/api", metal / "api", hardware, hardware / "wormhole",
               hardware / "wormhole/wormhole_b0_defines", hardware / "wormhole/noc"]
    objects = place / "objects"
    objects.mkdir()
    sources = {"substitutes": "hw/toolchain/substitutes.cpp", "noc": "hw/**/wormhole/**/noc.c", "tdma_xmov": "hw/**/tt-1xx/**/tdma_xmov.c"}
    for name, pattern in sources.items():
        source = next(metal.glob(pattern))
        subprocess.run([place / "riscv-tt-elf-g++", "-mcpu=tt-wh", "-Os", "-std=c++17", *(f"-I{folder}" for folder in folders), "-DARCH_WORMHOLE",
                        "-DTENSIX_FIRMWARE", "-DCOMPILE_FOR_BRISC", "-x", "c++", "-c", source, "-o", objects / f"{name}.o"], check=True)
    subprocess.run(["riscv64-unknown-elf-as", "-march=rv32im", "-mabi=ilp32", place / "data.s", "-o", objects / "data.o"], check=True)
