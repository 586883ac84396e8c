"""The piece of work: what a scripted model makes an agent do, turn by turn, and what must be on the disk in the end."""

from dataclasses import dataclass

BEGUN = {"notes.txt": "The mill has a wheel.\nThe wheel is 3 feet wide.\n", "race.txt": "The race is 40 feet long.\n"}
DONE = {
    "notes.txt": "The mill has a wheel.\nThe wheel is 12 feet wide.\n",
    "race.txt": "The race is 48 feet long.\n",
    "log.txt": "9\n16\n25\n",
}


@dataclass(frozen=True, slots=True)
class Read:
    """Read a file of the working folder."""

    file: str


@dataclass(frozen=True, slots=True)
class Edit:
    """Replace a text in a file; both are whole lines."""

    file: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Run:
    """Run a command of a shell."""

    command: str


Action = Read | Edit | Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What the model says at a turn. The request that comes next must have the texts of `then`, in its tools' results.

    They are the work of the tools: no script and no argument of a call has them.
    """

    thought: str = ""
    text: str = ""
    actions: tuple[Action, ...] = ()
    then: tuple[str, ...] = ()
    is_held: bool = False  # it comes to no end: its client must go
    fills: bool = False  # it says that the window is full, so that the agent compacts its history, if it does that


WIDE = "The wheel is 3 feet wide."
CHECK = (
    'grep -q "is 12 feet" notes.txt && echo "wheel is $((3*4))-wide" || { echo "wheel is not $((3*4))-wide"; exit 3; }'
)
FIRST = (
    Turn(thought="I read both files at once.", actions=(Read("notes.txt"), Read("race.txt")), then=(WIDE, "40 feet")),
    Turn(text="Now I check it.", actions=(Run(CHECK),), then=("wheel is not 12-wide",)),
    Turn(thought="Wrong; I edit it — “10”.", actions=(Edit("notes.txt", WIDE, "The wheel is 10 feet wide."),)),
    Turn(thought="Once more.", actions=(Run(f"{CHECK} # again"),), then=("wheel is not 12-wide",)),
    Turn(
        thought="Ten is too few 🎡.",
        text="Twelve, then.",
        actions=(Edit("notes.txt", "The wheel is 10 feet wide.", "The wheel is 12 feet wide."),),
    ),
    Turn(thought="Does it hold?", actions=(Run(f"{CHECK} # a third time"),), then=("wheel is 12-wide",)),
    Turn(actions=(Run('echo "$((3*3))" >> log.txt; echo "logged $((100+1))"'),), then=("logged 101",)),
    Turn(thought="That was all.", text="The wheel is 12 feet wide."),
)
SECOND = (
    Turn(thought="The race comes next.", actions=(Read("race.txt"),), then=("The race is 40 feet long.",)),
    Turn(
        thought="A command that is not there.",
        actions=(Run("millwright --measure || echo lost-$((1+1)); false"),),
        then=("lost-2",),
    ),
    Turn(actions=(Edit("race.txt", "The race is 40 feet long.", "The race is 48 feet long."),)),
    Turn(thought="Is it written?", actions=(Run("wc -c race.txt; echo $((6*8))-long"),), then=("48-long",)),
    Turn(
        thought="I log it.",
        actions=(Run('echo "$((4*4))" >> log.txt; echo "logged $((100+2))"'),),
        then=("logged 102",),
    ),
    Turn(thought="Now I think for a very long time.", text="And I begin to write, but", is_held=True),
)
THIRD = (
    Turn(thought="I go on where I was.", actions=(Read("log.txt"),), fills=True),
    Turn(actions=(Run('echo "$((5*5))" >> log.txt; echo "logged $((100+3))"'),), then=("logged 103",)),
    Turn(thought="A look at all.", actions=(Run("cat *.txt; echo year-$((2000+26)) >&2"),), then=("year-2026",)),
    Turn(
        thought="Five and two.", actions=(Run("echo five-$((2+3))"), Run("echo two-$((1+1))")), then=("five-5", "two-2")
    ),
    Turn(thought="One fails.", actions=(Run("echo seventy-$((70+7)) >&2; exit 9"),), then=("seventy-77",)),
    Turn(thought="And one is right.", actions=(Run("test -s log.txt; echo right-$((9*9))"),), then=("right-81",)),
    Turn(thought="All is done.", text="Wheel and race are as they should be."),
)
PROMPTS = ("Make the wheel 12 feet wide.", "Now make the race 48 feet long.", "Go on, and look at everything.")
PHASES = (FIRST, SECOND, THIRD)  # each is one process of the agent
TURNS = sum(not turn.is_held for phase in PHASES for turn in phase)
