"""Build fastrnn: every C kernel once per instruction set and element type, and one extension per Cython module.

The instruction set of the *building* machine decides nothing: each object is compiled for the features it names, all of them go
into one library, and the choice is made at run time. Everything that is metadata stands in pyproject.toml.

Environment: FASTRNN_NO_OPENMP=1 builds without OpenMP; FASTRNN_ISAS="scalar,avx2" builds only those (scalar always).
"""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

KERNELS = "fastrnn/_kernels"
SOURCES = "src_c"
DTYPES = ("f32", "f64")
# Feature flags of each instruction set, by architecture. Fused multiply-adds are written where they are meant, never contracted.
ISA_FLAGS: dict[str, dict[str, list[str]]] = {
    "x86_64": {
        "scalar": [],
        "avx2": ["-mavx2", "-mfma"],
        "avx512": [f"-mavx512{part}" for part in ("f", "bw", "dq", "vl")] + ["-mfma", "-mprefer-vector-width=512"],
    },
    "aarch64": {"scalar": [], "neon": []},
}
# The flags of Python itself ask for debug information: kernels then take twice as long to compile, their objects 17 times the room.
NO_DEBUG = "-g0"
C_FLAGS = ["-std=c11", "-O3", NO_DEBUG, "-Wall", "-Wextra", "-ffp-contract=off", "-fno-math-errno"]
CYTHON_FLAGS = ["-O2", NO_DEBUG, "-Wall", "-Wextra"]
CYTHON_DIRECTIVES = {
    "language_level": 3,
    "boundscheck": False,
    "wraparound": False,
    "initializedcheck": False,
    "cdivision": True,
    "freethreading_compatible": False,
    "embedsignature": True,
}
# Python modules that every small call passes through. Compiled as they stand they take two thirds of the time; no types are taken
# from their annotations, so they mean what they mean uncompiled. Modules of public classes are left out: Python says better which
# argument of a constructor is missing.
COMPILED = {
    "fastrnn": ("_checks",),
    "fastrnn/layers": ("convolution", "layer", "packing", "parameter", "pullback", "recurrent", "recurrent_pullback", "sequential"),
    "fastrnn/ops": (
        "_conv_algorithm", "_conv_gradients", "_packed_conv", "_pooling", "_recurrent", "_spatial", "activation", "conv",
        "conv_transpose", "linear", "norm", "optim",
    ),
    "fastrnn/optim": ("optimizer",),
}  # fmt: skip
AS_PYTHON = {"language_level": 3, "annotation_typing": False, "binding": True, "freethreading_compatible": False}
# Arriving through a user's CFLAGS these would turn on flush-to-zero for the whole process, break NaN and infinity, or let
# the portable kernels use what the building machine has.
FORBIDDEN_FLAGS = ("-ffast-math", "-Ofast", "-funsafe-math-optimizations", "-ffinite-math-only", "-march=", "-mcpu=")


def chosen_isas() -> dict[str, list[str]]:
    """Return the flags of each instruction set to build, for the target architecture."""
    machine = platform.machine().lower()
    table = ISA_FLAGS.get({"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine), {"scalar": []})
    wanted = os.environ.get("FASTRNN_ISAS")
    if wanted is None:
        return table
    names = {"scalar", *filter(None, (name.strip() for name in wanted.split(",")))}
    unknown = names - table.keys()
    if unknown:
        raise SystemExit(
            f"FASTRNN_ISAS: unknown for {machine}: {', '.join(sorted(unknown))}; known: {', '.join(table)}"
        )
    return {name: flags for name, flags in table.items() if name in names}


class BuildExtensions(build_ext):
    """Compile the kernels into one object folder per instruction set and hand them to `_dispatch` alone."""

    def finalize_options(self) -> None:
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()

    def build_extensions(self) -> None:
        self.clean_compiler()
        openmp = self.openmp_flags()
        isas = chosen_isas()
        compiler_id = " ".join(self.compiler.compiler_so[:1])
        for extension in self.extensions:
            name = extension.name.rpartition(".")[2]
            if name == "_threads":
                extension.extra_compile_args += openmp
                extension.extra_link_args += openmp
            elif name == "_dispatch":
                extension.define_macros += [("FR_COMPILER", f'"{compiler_id} " __VERSION__')]
                extension.extra_objects += self.kernel_objects(isas)
                extension.depends += extension.extra_objects  # or a change of the kernels alone would not be linked
        super().build_extensions()

    def clean_compiler(self) -> None:
        for tool in ("compiler", "compiler_so", "compiler_cxx", "linker_so"):
            command = getattr(self.compiler, tool, None)
            if command:
                setattr(self.compiler, tool, [word for word in command if not word.startswith(FORBIDDEN_FLAGS)])

    def openmp_flags(self) -> list[str]:
        """Return the flags of the first OpenMP spelling that compiles and links, or none."""
        if os.environ.get("FASTRNN_NO_OPENMP", "0") not in ("", "0"):
            return []
        candidates = [["-fopenmp"]]
        if sys.platform == "darwin":
            candidates.insert(0, ["-Xpreprocessor", "-fopenmp", "-lomp"])
        for flags in candidates:
            with tempfile.TemporaryDirectory() as folder:
                source = Path(folder, "probe.c")
                source.write_text("#include <omp.h>\nint main(void) { return omp_get_max_threads() < 1; }\n")
                try:
                    objects = self.compiler.compile([str(source)], output_dir=folder, extra_postargs=flags)
                    self.compiler.link_executable(objects, str(Path(folder, "probe")), extra_postargs=flags)
                except Exception:  # every compiler class has errors of its own; any failure means "not this spelling"
                    continue
                return flags
        return []

    def kernel_objects(self, isas: dict[str, list[str]]) -> list[str]:
        headers = sorted(str(path) for path in Path(SOURCES).rglob("*.h"))
        built = [(f"FR_BUILT_{isa}", "1") for isa in isas]
        jobs = [(f"isa/{isa}_{dtype}.c", isa, flags) for isa, flags in isas.items() for dtype in DTYPES]
        jobs += [(f"{source}.c", "common", []) for source in ("fr_cpu", "fr_dispatch")]

        def compiled(job: tuple[str, str, list[str]]) -> list[str]:
            source, folder, flags = job
            return self.compiler.compile(
                [f"{SOURCES}/{source}"],
                output_dir=str(Path(self.build_temp, folder)),
                macros=built,
                include_dirs=[SOURCES],
                extra_postargs=C_FLAGS + flags,
                depends=headers,
            )

        with ThreadPoolExecutor(os.cpu_count()) as pool:  # minutes of compiling: as many at once as there are cores
            return list(chain.from_iterable(pool.map(compiled, reversed(jobs))))


def kernel_modules() -> list[Extension]:
    """One extension per Cython module."""
    return [
        Extension(
            "fastrnn._kernels." + path.stem,
            [path.as_posix()],
            include_dirs=[SOURCES, KERNELS, numpy.get_include()],
            define_macros=[("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION")],
            extra_compile_args=CYTHON_FLAGS.copy(),
        )
        for path in sorted(Path(KERNELS).glob("*.pyx"))
    ]


def python_modules() -> list[Extension]:
    """One extension per Python module that is compiled; the module itself is installed beside it."""
    return [
        Extension(f"{package}/{name}".replace("/", "."), [f"{package}/{name}.py"], extra_compile_args=["-O1", NO_DEBUG])
        for package, names in COMPILED.items()
        for name in names
    ]


setup(
    ext_modules=cythonize(kernel_modules(), compiler_directives=CYTHON_DIRECTIVES, quiet=True)
    + cythonize(python_modules(), compiler_directives=AS_PYTHON, build_dir="build/python", quiet=True),
    cmdclass={"build_ext": BuildExtensions},
)
