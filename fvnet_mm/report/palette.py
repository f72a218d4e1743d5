"""Colours that stay apart for colour-blind readers, on white as on photographs."""

COLOURS: tuple[str, ...] = (
    "#E69F00",
    "#56B4E9",
    "#009E73",
    "#F0E442",
    "#0072B2",
    "#D55E00",
    "#CC79A7",
    "#882255",
    "#44AA99",
    "#332288",
    "#999933",
    "#DDDDDD",
)
"""Okabe and Ito's seven colours (Color Universal Design, 2008), then five of Tol's muted scheme (2021)."""

BLUE, ORANGE, VERMILION, GREEN = "#0072B2", "#E69F00", "#D55E00", "#009E73"
INK = "#222222"
QUIET = "#777777"
