"""Write .dvc/plots.html, the page of `dvc plots`, with Vega's scripts in it: it draws without a network."""

from fedmpq.files import write_text
from pipeline import command

# DVC fills in what stands in braces. Its own page would load the scripts from elsewhere. What compares
# the algorithms (curves.csv) comes first.
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
{refresh_tag}
<title>FedMPQ</title>
<style>
body { display: flex; flex-wrap: wrap; gap: 2em; margin: 2em; font-family: sans-serif; }
[id*="curves"] { order: -1; flex-basis: 100%; }
</style>
<script>
(() => {
VEGA
})();
</script>
</head>
<body>
{plot_divs}
</body>
</html>
"""


@command.entry
def main() -> None:
    """Write the page."""
    from vl_convert import javascript_bundle

    write_text(command.ROOT / ".dvc" / "plots.html", PAGE.replace("VEGA", javascript_bundle()))


if __name__ == "__main__":
    main()
