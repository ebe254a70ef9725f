"""The parts of scripts/bench_peers.py. They share the weights' recipes, which are scripts of their own in scripts/weights."""
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts" / "weights"))
