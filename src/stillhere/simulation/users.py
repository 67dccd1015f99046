"""What people do with their tabs."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from stillhere.core.connection import cause_of_close
from stillhere.core.words import Cause
from stillhere.simulation.client import Tab

if TYPE_CHECKING:
    from stillhere.simulation.world import World

_CLOSES = (1001, 1001, 4900, 1000, None)
_MOST = 3


class User:
    """Somebody with up to three tabs."""

    def __init__(self, world: World, name: str) -> None:
        """Nobody is there yet."""
        self.world = world
        self.name = name
        self.rng = random.Random(f"{world.plan.seed} {name}")
        self.tabs: list[Tab] = []
        self.staying: list[Tab] = []
        """Tabs that are open at the end."""
        self._count = 0
        self._sessions = 0
        self._hides = world.plan.hiding and self.rng.random() < 0.5
        if self._hides:
            world.hiding.add(name)

    def begin(self) -> None:
        """Live."""
        self.world.clock.after(self.rng.uniform(0.5, 10.0), self._live)

    def decide(self) -> None:
        """At the end: stay with one tab or more, or go."""
        stay = self.rng.random() < 0.5
        open_tabs = [tab for tab in self.tabs if tab.wanted]
        if stay:
            self.staying = open_tabs or [self._new_tab()]
            for tab in self.staying:
                if tab.availability == "invisible":
                    tab.availability = None
                    if tab.live:
                        tab.state("active")
                tab.open()
        else:
            for tab in open_tabs:
                tab.shut(self.rng.choice(_CLOSES))

    def _live(self) -> None:
        if self.world.quiet:
            return
        self._act()
        self.world.clock.after(self.rng.expovariate(1 / self.world.plan.pace), self._live)

    def _act(self) -> None:
        rng = self.rng
        self.tabs = [tab for tab in self.tabs if tab.wanted]
        if not self.tabs or (len(self.tabs) < _MOST and rng.random() < 0.2):
            self._new_tab().open()
            return
        tab = rng.choice(self.tabs)
        what = rng.random()
        if what < (0.10 if len(self.tabs) > 1 else 0.03):
            self._log_out(tab)
        elif what < 0.14:
            self._visit()
        elif what < 0.30:
            self._reload(tab)
        elif what < 0.45:
            tab.shut(rng.choice(_CLOSES))
        elif what < 0.53:
            tab.bye()
        elif what < 0.62:
            tab.drop()
        elif what < 0.67:
            tab.vanish(rng.choice((None, rng.uniform(1.0, 60.0))))
        elif what < 0.76:
            tab.state(rng.choice(("active", "busy", "away", *(("invisible",) if self._hides else ()))))
        elif what < 0.90:
            tab.join(rng.choice(("r1", "r2")))
        elif what < 0.97:
            if tab.rooms:
                tab.leave(min(tab.rooms))
        else:
            self.world.kick(self.name)

    def _reload(self, tab: Tab) -> None:
        """Mostly at once, sometimes much later, and sometimes when the window is about to be over."""
        code, chance = self.rng.choice(_CLOSES), self.rng.random()
        if chance < 0.7:
            seconds = self.rng.uniform(0.05, 3.5)
        elif chance < 0.8:
            seconds = self.rng.uniform(3.5, 30.0)
        else:
            cause = Cause.ABNORMAL if code is None else cause_of_close(code)
            seconds = self.world.policy.window(cause) * self.rng.uniform(0.5, 1.05)
        tab.reload(code, seconds)

    def _log_out(self, tab: Tab) -> None:
        """Say goodbye in one tab; the page closes the other ones of that log-in just before or just after."""
        for other in self.tabs:
            if other is not tab and other.session == tab.session and other.wanted:
                self._soon(1.0, other, self.rng.choice(_CLOSES))
        self._soon(1.5, tab, None, bye=True)

    def _visit(self) -> None:
        """Come, and go within seconds: perhaps before the store has heard of it."""
        tab = self._new_tab()
        tab.open()
        self._soon(5.0, tab, 1001, bye=self.rng.random() < 0.6)

    def _soon(self, seconds: float, tab: Tab, code: int | None, *, bye: bool = False) -> None:
        """End a tab within so many seconds, unless everything is over by then."""

        def end() -> None:
            if tab.wanted and not self.world.quiet:
                tab.bye() if bye else tab.shut(code)

        self.world.clock.after(self.rng.uniform(0.05, seconds), end)

    def _new_tab(self) -> Tab:
        self._count += 1
        if self._sessions == 0 or self.rng.random() < 0.3:
            self._sessions += 1
        tab = Tab(self.world, self.name, f"{self.name}-t{self._count}", self.rng.randrange(self._sessions))
        self.tabs.append(tab)
        return tab
