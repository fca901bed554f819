"""Events of streams that tests make up."""


class Event(int):
    """An event that is its number. Of a second `life` of the store: another one under the same number."""

    life: int

    def __new__(cls, number: int, life: int = 0) -> "Event":
        event = super().__new__(cls, number)
        event.life = life
        return event

    @property
    def mark(self) -> int:
        return 10 * self + self.life
