"""The tools people use: what they print and how they end."""

import subprocess
import sys
from typing import Any

from tests.conformance.bench import Bench
from tests.conformance.registry import Checks

CHECKS = Checks()
check = CHECKS

LIST, STAGED = "ascii_runtime_measurements", "ascii_runtime_measurements_staged"

SCRIPTS = {
    "shell_echo_stages": f"echo A > {STAGED}; cat runtime_measurements_count",
    "shell_echo_appends": f"echo A >> {STAGED}; cat runtime_measurements_count",
    "shell_echo_deletes": f"echo A > {STAGED}; echo D > {STAGED}; wc -l < {STAGED}",
    "shell_echo_a_number": f"echo 2 > {LIST}; cat runtime_measurements_count",
    "shell_echo_without_newline": f"printf A > {STAGED}",
    "shell_echo_nonsense": f"echo nonsense > {LIST}",
    "shell_echo_too_much": f"echo 4 > {LIST}",
    "shell_printf_two_commands_at_once": f"printf 'A\\nD\\n' > {STAGED}",
    "shell_two_commands_through_one_redirection": f"(echo A; echo D) > {STAGED}; cat runtime_measurements_count",
    "shell_cat": f"cat {LIST}",
    "shell_cat_all": "cat *_runtime_measurements_sha* | wc -c",
    "shell_wc": f"wc -lc {LIST} {STAGED} runtime_measurements_count",
    "shell_cp": f"cp {LIST} /run/imarium-conformance/copy && wc -lc < /run/imarium-conformance/copy",
    "shell_cp_r": "rm -rf /run/imarium-conformance/tree; cp -r . /run/imarium-conformance/tree; "
    f"ls /run/imarium-conformance/tree; cmp {LIST} /run/imarium-conformance/tree/{LIST}",
    "shell_tail_c": f"tail -c 20 {LIST}",
    "shell_tail_n": f"tail -n 1 {LIST}; tail -n +3 {LIST}",
    "shell_head": f"head -n 1 {LIST}; head -c 30 {LIST}",
    "shell_dd_small": f"dd if={LIST} bs=7 status=none",
    "shell_dd_large": f"dd if={LIST} bs=1M status=none",
    "shell_dd_skip": f"dd if={LIST} bs=10 skip=5 count=2 status=none",
    "shell_dd_writes": f"echo A | dd of={STAGED} status=none; cat runtime_measurements_count",
    "shell_dd_writes_without_truncation": f"echo A | dd of={STAGED} conv=notrunc status=none; wc -l < {STAGED}",
    "shell_tee": f"echo A | tee {STAGED}; wc -l < {STAGED}",
    "shell_grep_and_sort": f"grep -c conformance {LIST}; sort {LIST} | md5sum; sha256sum < {LIST}",
    "shell_od": "od -An -tx1 -N 40 binary_runtime_measurements",
    "shell_cmp": "cmp ascii_runtime_measurements ascii_runtime_measurements_sha1 && echo same",
    "shell_ls": f"ls; ls -L {LIST} {STAGED}; stat -c '%A %h %u %g %s %F' *",
    "shell_find": "find . -type f -perm -200 | sort; find . -type l | sort; find . -size +0",
    "shell_test": f"test -s {LIST}; echo $?; test -w {LIST}; echo $?; test -f {LIST}; echo $?; test -L {LIST}; echo $?",
    "shell_reader_and_writer": f"{{ echo A > {STAGED}; }} < {LIST}; cat runtime_measurements_count",
    "shell_pipe_into_the_same_list": f"cat {LIST} | {{ cat > /dev/null; echo 3 > {LIST}; }}; cat *_count",
}


def _script(bench: Bench, script: str) -> Any:
    """With three current records."""
    bench.measure(3)
    done = subprocess.run(["sh", "-c", script], cwd=bench.root, capture_output=True, check=False)
    return [done.returncode, done.stdout.decode(errors="backslashreplace"), done.stderr.decode().splitlines()]


for _name, _text in SCRIPTS.items():
    CHECKS.add(_name, _script, _text)


PYTHON = {
    "python_buffered": "open(s, 'w').write('A\\n'); print(n(), open(s).read())",
    "python_two_buffered_writes_become_one": "f = open(s, 'w'); f.write('A'); f.write('\\n'); f.close(); print(n())",
    "python_two_lines_become_one_write": "f = open(s, 'w'); f.write('A\\n'); f.write('D\\n'); f.close()",
    "python_line_buffered": "f = open(s, 'w', buffering=1); f.write('A\\n'); f.write('D\\n'); f.close(); print(n())",
    "python_unbuffered": "f = open(s, 'wb', buffering=0); print(f.write(b'A\\n'), f.write(b'D\\n'), n())",
    "python_unbuffered_parts": "f = open(s, 'wb', buffering=0); f.write(b'A'); f.write(b'\\n')",
    "python_reads_and_writes": "f = open(s, 'r+b', buffering=0); f.write(b'A\\n'); f.seek(0); print(len(f.read()))",
    "python_reads_and_writes_buffered": "f = open(s, 'r+'); f.write('A\\n')",
    "python_appends": "f = open(s, 'a'); f.write('A\\n'); f.close(); print(n())",
    "python_positions": "f = open(b, 'rb'); x = f.read(20); f.seek(4); print(f.read(16) == x[4:], f.tell())",
    "python_end": "f = open(b, 'rb'); f.seek(0, 2); print(f.tell())",
    "python_paths": "import pathlib; p = pathlib.Path(s); p.write_text('A\\n'); print(p.read_text(), p.stat().st_size)",
    "python_lines": "print([len(line.split(' ')) for line in open(l)])",
}


def _python(bench: Bench, text: str) -> Any:
    """With three current records."""
    bench.measure(3)
    names = {
        "b": bench.plain,
        "l": bench.file("ascii"),
        "s": bench.file("ascii", staged=True),
        "c": bench.root / "runtime_measurements_count",
    }
    head = "; ".join(f"{name} = {str(path)!r}" for name, path in names.items())
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"{head}\nn = lambda: open(c).read()\n{text}"],
        capture_output=True,
        check=False,
    )
    error = done.stderr.decode().strip().splitlines()[-1:]
    return [done.returncode, done.stdout.decode(), [line.partition(": '")[0] for line in error]]


for _name, _text in PYTHON.items():
    CHECKS.add(_name, _python, _text)
