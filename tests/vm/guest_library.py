"""The modules that a session needs, as one file: a guest that starts again and again is up in half the time.

In a guest each module is a file to be fetched from the host, and measured.
"""

import py_compile
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

__all__ = ["write_library"]

_LISTED = """
import sys
{imports}
for name, module in sorted(sys.modules.items()):
    if getattr(module, "__file__", None) and module.__spec__ is not None:
        print(name, module.__spec__.submodule_search_locations is not None, module.__file__, sep="\\t")
"""


def write_library(path: Path, imports: str, source: Path) -> None:
    """Write a zip file with what ``imports`` loads of the standard library and of the packages below ``source``.

    Modules that are not written in Python, and packages of others, stay where they are.
    """
    command = [sys.executable, "-c", _LISTED.format(imports=imports)]
    listed = subprocess.run(command, capture_output=True, text=True, check=True, env={"PYTHONPATH": str(source)})
    standard = Path(sysconfig.get_path("stdlib"))
    with zipfile.ZipFile(path, "w") as archive:
        for line in listed.stdout.splitlines():
            name, is_package, file = line.split("\t")
            place = Path(file)
            if place.suffix != ".py" or not (place.is_relative_to(source) or place.is_relative_to(standard)):
                continue
            compiled = path.with_suffix(".pyc")
            mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
            py_compile.compile(file, str(compiled), doraise=True, invalidation_mode=mode)
            inside = name.replace(".", "/") + ("/__init__" if is_package == "True" else "")
            archive.write(compiled, f"{inside}.pyc")
    path.with_suffix(".pyc").unlink()
