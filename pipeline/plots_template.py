"""Let `dvc plots` write pages that draw without a network, with Vega's scripts in them: .dvc/plots.html."""

import subprocess
import sys

from vl_convert import javascript_bundle

from fedmpq.files import write_text
from pipeline import command

# DVC fills in what stands in braces. Its own page would load the scripts from elsewhere. What compares
# the algorithms (reports/curves/) comes first.
PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
{refresh_tag}
<title>FedMPQ</title>
<style>
body { display: flex; flex-wrap: wrap; gap: 2em; margin: 2em; font-family: sans-serif; }
[id*="curves"] { order: -1; flex-basis: 100%; }
[id$="run_json"] { display: none !important; }
</style>
<script>
(() => {
VEGA
})();
</script>
{plot_divs}
"""


@command.entry
def main() -> None:
    """Write the page and tell DVC of it in .dvc/config.local, so that without the page DVC's own is used."""
    page = command.ROOT / ".dvc" / "plots.html"
    write_text(page, PAGE.replace("VEGA", javascript_bundle()))
    dvc = [sys.executable, "-m", "dvc", "config", "--local", "plots.html_template", page.name]
    subprocess.run(dvc, cwd=command.ROOT, check=True)


if __name__ == "__main__":
    main()
