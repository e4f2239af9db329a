"""The order of tasks and the count of deaths, on workers of which a test decides when they die."""

from dataclasses import dataclass
from typing import Any

import pytest

from fedmpq.engine.pool import Died, Pool
from fedmpq.federated.tasks import Failure


@dataclass(frozen=True)
class Errand:
    """A task whose result is its name."""

    name: str
    cost: int = 0


class Scripted(Pool):
    """Workers each of which carries out its task at once or dies, as the script says."""

    def __init__(self, workers, deaths=None):
        self.started, self.log, self.deaths, self.left = 0, [], deaths or {}, []
        super().__init__(lambda: Actor(self), workers)


class Actor:
    def __init__(self, script):
        script.started += 1
        self.script, self.number = script, script.started

    def run(self, task: Any):
        self.script.log.append(task.name)
        if self.script.deaths.get(task.name, 0):
            self.script.deaths[task.name] -= 1
            raise Died("killed")
        return task.name

    def stop(self):
        self.script.left.append(self.number)


def test_the_costliest_task_comes_first():
    pool = Scripted(1)
    tasks = [Errand("small", 1), Errand("large", 9), Errand("middle", 5)]
    assert {task.name: result for task, result in pool.run(tasks)} == {
        name: name for name in ("small", "large", "middle")
    }
    assert pool.log == ["large", "middle", "small"]


@pytest.mark.parametrize(("deaths", "tries"), [(0, 1), (1, 2), (2, 3), (3, 3), (9, 3)])
def test_a_task_is_tried_three_times_at_most(deaths, tries):
    pool = Scripted(2, {"a": deaths})
    results = dict(pool.run([Errand("a", 2), Errand("b", 1), Errand("c")]))
    assert len(results) == 3
    assert pool.log.count("a") == tries
    assert isinstance(results[Errand("a", 2)], Failure) == (deaths >= 3)
    assert (results[Errand("b", 1)], results[Errand("c")]) == ("b", "c")
    assert pool.started == 2 + min(deaths, 3)


def test_deaths_are_counted_for_each_round_anew():
    pool = Scripted(1, {"a": 4})
    first, second = (next(iter(dict(pool.run([Errand("a")])).values())) for _ in range(2))
    assert first == Failure("its worker died 3 times, the last time: killed")
    assert second == "a"


def test_all_workers_are_let_go_also_after_an_error():
    pool = Scripted(3)

    def interrupted():
        with pool:
            next(pool.run([Errand("a"), Errand("b")]))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert sorted(pool.left) == [1, 2, 3]
