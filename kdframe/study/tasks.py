"""What can be done with a study: train it, alone or with others, tune it, and report on it."""

import logging
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kdframe.run_files import read_json
from kdframe.signals import Signals
from kdframe.study import table
from kdframe.study.alone import Alone
from kdframe.study.folder import ABOUT, StudyFolder, owner, refuse_other
from kdframe.study.found import find_rows
from kdframe.study.planning import Plan, plan, refuse_changed
from kdframe.study.searching import Searching
from kdframe.study.sharing import Sharing
from kdframe.study.written import Study
from kdframe.writing import write_json

log = logging.getLogger("kdframe")

Results = Mapping[str, Mapping[str, Any]]  # and costs, by the runs' keys


@dataclass(frozen=True)
class Work:
    """A study, and how a command line wants it done; see ``tools/run_study.py -h``."""

    study: Study
    rows: Sequence[str]
    seeds: Sequence[int]
    storage: str
    heartbeat: int
    grace: int
    retry: bool
    debug: bool

    def plan(self) -> Plan:
        """All runs, held against what is in the study's folder.

        Raises:
            ConfigError: another study's folder, or a config that changed under a run.
        """
        refuse_other(self.study, read_json(self.study.output_dir / ABOUT))
        whole = plan(self.study)
        refuse_changed(whole)
        for note in whole.notes:
            log.info(note)
        return whole

    def dry_run(self) -> None:
        """Prints what would be trained."""
        whole = self.plan().only(self.rows, self.seeds)
        for number, run in enumerate(whole.runs.values(), 1):
            after = f", after {', '.join(run.needs)}" if run.needs else ""
            log.info("[%d/%d] %s: %s%s", number, len(whole.runs), run.key, run.state(), after)
            log.info("    %s", shlex.join(run.command()))

    def report(self) -> None:
        """Prints and writes the table of what is done.

        Raises:
            ConfigError: nothing is.
        """
        whole = self.plan()
        self.tell(whole, self.sharing(whole).results() if self.storage else {})

    def train(self) -> None:
        """Trains what isn't done, then reports.

        Raises:
            RunsFailed: some runs failed; the table is there all the same.
        """
        whole = self.plan()
        with StudyFolder(self.study.output_dir, shared=bool(self.storage)), Signals() as signals:
            self.claim()
            picked = whole.only(self.rows, self.seeds)
            if self.storage:
                everything, sharing = self.sharing(whole), self.sharing(picked)
                sharing.work(signals.asked, self.retry, self.debug)
                self.tell_done(whole, everything.results())
                sharing.end()
            else:
                alone = Alone(picked, self.retry, signals.asked, self.debug)
                alone.work()
                self.tell_done(whole, {})
                alone.end()

    def search(self) -> None:
        """Tunes what SEARCH says, on validation only."""
        refuse_other(self.study, read_json(self.study.output_dir / ABOUT))
        with StudyFolder(self.study.output_dir, shared=bool(self.storage)), Signals() as signals:
            self.claim()
            searching = Searching(self.study, self.storage, self.heartbeat, self.grace)
            searching.work(signals.asked, self.debug)
            searching.report()

    def sharing(self, whole: Plan) -> Sharing:
        """The queue of these runs in the storage."""
        return Sharing(whole, self.storage, self.heartbeat, self.grace)

    def claim(self) -> None:
        """Writes into the folder whose it is, before anything else is there."""
        path = self.study.output_dir / ABOUT
        if not path.exists():
            write_json(path, {**owner(self.study), "rows": {}})

    def tell_done(self, whole: Plan, results: Results) -> None:
        """The table, if a row is done."""
        rows = [run for run in whole.runs.values() if run.row]
        if any(run.key in results or run.state() == "done" for run in rows):
            self.tell(whole, results)

    def tell(self, whole: Plan, results: Results) -> None:
        """The table, to the console and the study's folder; ``results`` are other machines'."""
        found = find_rows(whole, results)
        self.study.output_dir.mkdir(parents=True, exist_ok=True)
        written = table.write(self.study, found)
        for line in table.printed(self.study, found):
            log.info(line)
        log.info("%s", ", ".join(map(str, written)))
