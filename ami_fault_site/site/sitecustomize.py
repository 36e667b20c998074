"""For environments that cannot be installed into: start the hook from PYTHONPATH, and run what this file hides.

Python imports the first `sitecustomize` on its path only. Another one, further down, belongs to the environment (a
distribution's, a container's, a profiler's) and is run too.
"""

import os
import sys


def _run_hidden() -> None:
    import importlib.machinery
    import importlib.util

    here = os.path.dirname(os.path.abspath(__file__))
    others = [path for path in sys.path if os.path.abspath(path or os.getcwd()) != here]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", others)
    if spec is None or spec.loader is None:
        return
    module = importlib.util.module_from_spec(spec)
    # It finds itself in sys.modules, as it would have without us.
    sys.modules["sitecustomize"] = module
    spec.loader.exec_module(module)


def _activate() -> None:
    if not os.environ.get("AMI_TEST_FAULT_INJECTION_ENABLED"):
        return
    here = os.path.dirname(os.path.abspath(__file__))
    root = os.path.join(here, "packages")  # of a bundle, where a copy of this file lies beside it
    if not os.path.isdir(root):
        # The folder above the package: on sys.path already where dependencies lie beside it, else added at its end.
        root = os.path.dirname(os.path.dirname(here))
    if root not in sys.path:
        sys.path.append(root)
    from ami_fault_site import startup

    startup.activate()


try:
    _activate()
finally:
    _run_hidden()
