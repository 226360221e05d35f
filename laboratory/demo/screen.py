"""Output of the demo, and the figures that its summary shows."""

from rich.console import Console
from rich.table import Table

Figures = dict[str, str]
"""Figure by what was measured, as text with its unit."""

console = Console(highlight=False, soft_wrap=True)


def print_title(text: str) -> None:
    """Print the title of a step."""
    console.print(f"[bold cyan]{text}[/]")


def print_figures(figures: Figures) -> None:
    """Print what was measured."""
    print_title("Measured in this run")
    table = Table(box=None, show_header=False)
    for name, figure in figures.items():
        table.add_row(name, f"[bold]{figure}[/]")
    console.print(table)
    console.print()
