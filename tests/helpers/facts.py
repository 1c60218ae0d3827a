"""Compare a message with the facts that it must state, whatever sentence they stand in."""

import re


class says:  # reads as a function, as pytest.approx does
    """Equal a text that states each of the facts as whole words, in any order.

    Args:
        facts: what matters in the message: the case, the file, the number, the option to use.
    """

    def __init__(self, *facts: str) -> None:
        self.facts = facts

    def __eq__(self, text: object) -> bool:
        return isinstance(text, str) and all(
            re.search(rf"(?<!\w){re.escape(fact)}(?!\w)", text) is not None for fact in self.facts
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"says{self.facts}"
