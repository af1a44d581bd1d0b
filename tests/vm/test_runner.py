"""The runner itself: what a test may count on inside a guest, and what it learns when a guest goes wrong."""

import os
import shlex
import subprocess
import threading
from pathlib import Path

import pytest
from tests.vm.kexec_script import KEXEC
from vm.errors import GuestError, GuestTimeout, VmError
from vm.guest import Guest
from vm.initrd import archive
from vm.kernels import FRAGMENT, PROJECT, find, not_effective
from vm.machine import Machine, Setup

IMA = "/sys/kernel/security/ima"
RUN = PROJECT / "vm" / "run"


def names(listing: str) -> list[str]:
    return [line.split(" ")[4] for line in listing.splitlines() if line]


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def children_of(pid: int) -> list[int]:
    found = (entry for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return [int(entry.name) for entry in found if f"\nPPid:\t{pid}\n" in _status(entry)]


def _status(entry: Path) -> str:
    try:
        return (entry / "status").read_text()
    except OSError:
        return ""


def test_command_line_streams_output_and_ends_with_the_status() -> None:
    done = subprocess.run(
        [str(RUN), "--timeout", "120", "--", "sh", "-c", "echo out; echo err >&2; id -u; exit 7"],
        check=False,
        text=True,
        capture_output=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\nerr\n0\n", "")


def test_output_comes_as_it_is_printed(staging_kernel: Path) -> None:
    seen = threading.Event()
    printed = bytearray()

    def look(chunk: bytes) -> None:
        printed.extend(chunk)  # a chunk may be a single byte
        if b"early" in printed:
            seen.set()

    setup = Setup(kernel=staging_kernel, command=("sh", "-c", "echo early; sleep 300"))
    with Machine(setup, look) as machine:
        assert seen.wait(120)
        assert alive(machine.pid)


def test_environment_and_bytes_of_the_output_come_through(guest: Guest) -> None:
    done = guest(r"printf 'a\tb\303\244\n'; echo $HOME; echo $PATH; pwd; test -t 0 || echo no input; kill -9 $$")
    expected = ["a\tbä", os.environ["HOME"], os.environ["PATH"], "/", "no input"]
    assert done.console.splitlines() == expected
    assert done.status == 128 + 9


def test_the_inside_is_this_machine_with_its_own_devices(guest: Guest, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(bytes(range(256)))
    script = f"""
        set -e
        cmp /usr/bin/env /shared/env && cmp {shlex.quote(str(Path(__file__)))} /shared/self
        cp /shared/in /shared/out
        test -c /dev/tpm0 && test -c /dev/tpmrm0 && test -c /dev/fuse
        touch /etc/imarium /tmp/x /run/x /dev/shm/x && mkfifo /tmp/fifo && echo x > /dev/stdout
        test -s /run/vm/bzImage && test -s /run/vm/initrd && test -d /sys/kernel/config
        ls /sys/class/misc/tsm_mr_sample/measurements
        ip -o addr show lo 2>/dev/null | grep -q 127.0.0.1 || busybox ip -o addr show lo | grep -q 127.0.0.1
    """
    (tmp_path / "env").write_bytes(Path("/usr/bin/env").read_bytes())
    (tmp_path / "self").write_bytes(Path(__file__).read_bytes())
    done = guest(script, share=tmp_path)
    assert done.status == 0, done.console
    assert (tmp_path / "out").read_bytes() == bytes(range(256))
    assert not Path("/etc/imarium").exists()
    assert "rtmr0:sha256" in done.console.split()


def test_this_python_and_this_project_run_inside(guest: Guest, guest_python: str, guest_imarium: str) -> None:
    done = guest(f"{guest_python} -c 'import imarium; print(imarium.__file__)' && {guest_imarium} replay --help")
    assert done.status == 0, done.console
    assert "imarium/__init__.py" in done.console
    assert "Usage: " in done.console


def test_lists_show_real_paths_and_reach_the_register(guest: Guest) -> None:
    done = guest(
        f"cat {IMA}/ascii_runtime_measurements; echo ====; ls {IMA}; cat /sys/class/tpm/tpm0/pcr-sha256/10",
        append="ima_policy=tcb",
    )
    assert done.status == 0, done.console
    listing, _, rest = done.console.partition("====\n")
    measured = names(listing)
    assert measured[0] == "boot_aggregate"
    assert measured[1:5] == ["/init", "/bin/busybox", "/run/guest/busybox", str(Path("/bin/sh").resolve())]
    assert str(Path("/bin/cat").resolve()) in measured
    assert not [name for name in measured[5:] if not Path(name).exists()]
    *files, register = rest.split()
    assert {f"binary_runtime_measurements_{alg}{end}" for alg in ("sha1", "sha256") for end in ("", "_staged")} <= {
        *files
    }
    assert len(register) == 64
    assert set(register) != {"0"}


def test_records_can_be_staged_and_deleted(guest: Guest) -> None:
    done = guest(
        f"cd {IMA}; echo A > binary_runtime_measurements_staged && wc -c < binary_runtime_measurements_staged &&"
        " echo D > binary_runtime_measurements_staged && cat runtime_measurements_count"
    )
    assert done.status == 0, done.console
    staged, left = map(int, done.console.split())
    assert staged > 0
    assert left == 0


def test_late_kernel_begins_with_a_late_aggregate(guest: Guest, latesync_kernel: Path) -> None:
    done = guest(f"cat {IMA}/ascii_runtime_measurements", kernel=latesync_kernel)
    assert names(done.console)[0] == "boot_aggregate_late"


def test_tpm_state_is_kept_where_asked(guest: Guest, tmp_path: Path) -> None:
    tpm = tmp_path / "tpm"
    define = "tpm2_nvdefine -Q -C o -s 8 0x1500016 && printf imarium. | tpm2_nvwrite -Q -C o -i - 0x1500016"
    assert guest(define, tpm=tpm).status == 0
    assert guest("tpm2_nvread -C o -s 8 0x1500016", tpm=tpm).console.strip() == "imarium."
    assert guest("tpm2_nvread -C o -s 8 0x1500016").status != 0


def test_kexec_goes_on_with_the_same_registers(guest: Guest) -> None:
    script = f"""
        grep -q second_kernel /proc/cmdline && exec cat {IMA}/ascii_runtime_measurements
        echo first kernel
        python3 -c {shlex.quote(KEXEC)}
    """
    done = guest(script)
    assert done.status == 0, done.console
    first, _, listing = done.console.partition("\n")
    assert first == "first kernel"
    assert names(listing) == ["boot_aggregate", "boot_aggregate"]


def test_disk_keeps_what_was_synced_before_the_power_was_cut(
    guest: Guest, staging_kernel: Path, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    with disk.open("wb") as image:
        image.truncate(32 << 20)
    script = (
        "mke2fs -q -t ext4 /dev/vda && mount /dev/vda /mnt && echo kept > /mnt/a && sync && echo lost > /mnt/b"
        " && echo now && sleep 300"
    )
    with Machine(Setup(kernel=staging_kernel, command=("sh", "-c", script), disk=disk)) as machine:
        machine.wait_for("now\n", 120)
        machine.cut_power()
        with pytest.raises(GuestError, match="SIGKILL"):
            machine.wait(10)
    done = guest("mount /dev/vda /mnt && cat /mnt/a && ls /mnt", disk=disk)
    assert done.status == 0, done.console
    assert done.console.split() == ["kept", "a", "lost+found"]


def test_panic_is_one_line_with_the_console(guest: Guest) -> None:
    with pytest.raises(GuestError, match=r"^the kernel panicked: Kernel panic - not syncing: .*") as caught:
        guest("true", append="rdinit=/none root=/dev/none")
    assert "\n" not in str(caught.value)
    assert "Kernel panic" in caught.value.console


def test_reset_is_not_taken_for_the_end_of_the_command(guest: Guest) -> None:
    with pytest.raises(GuestError, match="reset or switched off before the command had ended"):
        guest("busybox reboot -f")


def test_nothing_is_left_running_after_a_timeout(staging_kernel: Path) -> None:
    setup = Setup(kernel=staging_kernel, command=("sleep", "300"))
    before = set(children_of(os.getpid()))
    with pytest.raises(GuestTimeout, match="still runs after 1 s"), Machine(setup) as machine:
        started = set(children_of(os.getpid())) - before
        machine.wait(1)
    assert len(started) == 2
    assert not any(alive(pid) for pid in started)


def test_qemu_that_cannot_start_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "bzImage"
    broken.write_bytes(b"not a kernel")
    with (
        pytest.raises(GuestError, match="QEMU ended with status 1: "),
        Machine(Setup(kernel=broken, command=("true",), accel="tcg")) as machine,
    ):
        machine.wait(60)


def test_missing_files_and_programs_are_named(
    staging_kernel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup = Setup(kernel=staging_kernel, command=("true",), disk=tmp_path / "none")
    with pytest.raises(VmError, match=r"^no such file or directory: .*none$"), Machine(setup):
        pass
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(VmError, match="apt-get install qemu-system-x86 util-linux"), Machine(setup):
        pass


def test_options_that_did_not_take_effect_are_named() -> None:
    wanted = 'CONFIG_A=y\n# CONFIG_B=y\nCONFIG_C=n\nCONFIG_D=n\nCONFIG_E="x"\nCONFIG_F=y\n'
    config = 'CONFIG_A=y\n# CONFIG_C is not set\nCONFIG_D=y\nCONFIG_E="y"\n# CONFIG_F is not set\n'
    assert not_effective(wanted, config) == ["CONFIG_D=n", 'CONFIG_E="x"', "CONFIG_F=y"]
    assert "CONFIG_IMA_STAGING=y" in not_effective(FRAGMENT.read_text(), "")


def test_kernels_are_taken_from_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("bzImage-7.3-staging", "bzImage-7.10-staging", "bzImage-7.10-staging-latesync"):
        (tmp_path / name).touch()
    monkeypatch.setenv("IMARIUM_KERNEL_DIR", str(tmp_path))
    assert find("staging") == tmp_path / "bzImage-7.10-staging"
    assert find("staging-latesync") == tmp_path / "bzImage-7.10-staging-latesync"
    monkeypatch.setenv("IMARIUM_CACHE", str(tmp_path / "cache"))
    assert find("staging", prebuilt=False) is None


def test_initial_ram_disk_is_an_archive_that_cpio_reads(tmp_path: Path) -> None:
    image = archive(Path("/bin/busybox"), "exec true\n", [Path("/tmp/x y"), Path("/usr")])  # noqa: S108 - a name
    subprocess.run(["cpio", "-i", "--quiet", "--no-absolute-filenames"], cwd=tmp_path, input=image, check=True)
    assert (tmp_path / "bin/busybox").read_bytes() == Path("/bin/busybox").read_bytes()
    assert (tmp_path / "command").read_text() == "exec true\n"
    assert "for d in '/tmp/x y'; do" in (tmp_path / "init").read_text()
