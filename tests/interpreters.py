"""Real interpreters to look at: bare virtual environments, filled by hand, and other versions of Python."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parent.parent
LINE = ROOT / "ami_fault_site" / "ami_fault_site.pth"
PURE = ("requests", "urllib3", "certifi", "idna", "charset_normalizer")
"""What a worker has and any Python 3.10 or newer can import: what is compiled in them can be done without."""

PIL = 'class Image: pass\ndef open(fp, mode="r", formats=None):\n    return Image()\n'


@dataclass(frozen=True)
class Environment:
    """A virtual environment: its interpreter and the folder of its packages."""

    python: str
    packages: Path

    def write(self, name: str, text: str) -> Path:
        """Put a file among the packages."""
        path = self.packages / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def link(self, *modules: str) -> None:
        """Borrow packages of this interpreter."""
        for module in modules:
            spec = find_spec(module)
            assert spec is not None
            assert spec.origin is not None
            (self.packages / module).symlink_to(Path(spec.origin).parent)

    def install(self) -> None:
        """Have ami-fault-site here as an editable install has it, with what it needs."""
        self.write("_checkout.pth", f"{ROOT}\n")
        shutil.copyfile(LINE, self.packages / LINE.name)
        self.link("wrapt", "dotenv")

    def script(self, name: str, head: str) -> Path:
        """Put a console script beside the interpreter."""
        path = Path(self.python).parent / name
        path.write_text(f"{head}\nprint('working')\n")
        path.chmod(0o755)
        return path


def make(folder: Path, base: str = sys.executable) -> Environment:
    """Make an environment with requests, and with a stand-in for PIL that imports fast and in every Python."""
    subprocess.run([base, "-m", "venv", "--without-pip", str(folder)], check=True, env=bare())
    made = Environment(str(folder / "bin" / "python"), next(folder.glob("lib/python3*/site-packages")))
    made.link(*PURE)
    made.write("PIL/__init__.py", '__version__ = "11.0.0"\n')
    made.write("PIL/Image.py", PIL)
    return made


def bare(**variables: str) -> dict[str, str]:
    """Return an environment in which no variable says anything of Python or of us."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith(("AMI_", "PYTHON", "VIRTUAL_ENV"))}
    return {**kept, **variables}


def others(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the Pythons that pyenv has, by version: the newest of each minor version."""
    home = Path(environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found = {path.parent.parent.name: str(path) for path in home.glob("versions/*/bin/python")}
    numbered = {name: path for name, path in found.items() if name.replace(".", "").isdigit()}
    ordered = sorted(numbered, key=lambda name: [int(part) for part in name.split(".")])
    return {name.rpartition(".")[0]: numbered[name] for name in ordered}
