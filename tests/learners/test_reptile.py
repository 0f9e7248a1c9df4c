import copy
from typing import Any

import pytest
import torch
from factories import WAYS, Smooth, answers, shaken, slopes, tasks
from reference import task_loss
from torch import Tensor

from handful.checkpoint import load_checkpoint, save_checkpoint
from handful.data import FunctionEpisodes, Sinusoid
from handful.episode import Support
from handful.errors import SpecError
from handful.learners import Reptile
from handful.spec import Spec, build

pytestmark = pytest.mark.usefixtures("float64")


def learner_of(**options: Any) -> Reptile:
    return Reptile(shaken(Smooth()), **{"outputs": WAYS, "inner_rate": 0.02, "inner_steps": 3, **options}).double()


def test_one_step_of_gradient_descent_is_joint_training() -> None:
    """The gradient is then that of the mean loss on all examples of all tasks, times the inner rate."""
    learner, episode = learner_of(inner_steps=1, optimizer={"name": "sgd"}), tasks()
    support, query = episode.support, episode.query
    joint = [
        task_loss(learner.model(torch.cat([x, qx])), torch.cat([y, qy]))
        for x, y, qx, qy in zip(support.x, support.y, query.x, query.y, strict=True)
    ]
    wanted = slopes(torch.stack(joint).mean(), learner)
    for mine, want in zip(slopes(learner.loss(episode), learner), wanted, strict=True):
        assert torch.allclose(mine, 0.02 * want, atol=1e-14)


def test_a_step_of_sgd_moves_toward_the_mean_of_the_tasks() -> None:
    learner, episode = learner_of(), tasks()
    examples = learner.adapt(_both(episode)).parameters
    theta = {name: leaf.detach().clone() for name, leaf in learner.model.named_parameters()}
    optimizer = torch.optim.SGD(learner.parameters(), lr=0.25)
    learner.loss(episode).backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    for name, leaf in learner.model.named_parameters():
        assert torch.allclose(leaf, theta[name] + 0.25 * (examples[name].mean(0) - theta[name]))


def _both(episode: Any) -> Support:
    support, query = episode.support, episode.query
    return Support(torch.cat([support.x, query.x], 1), torch.cat([support.y, query.y], 1), WAYS)


def test_the_second_moment_goes_on_from_task_to_task() -> None:
    """Three steps of training, a task each, leave what torch's Adam has after them, weights put back in between."""
    learner = learner_of()
    model = copy.deepcopy(learner.model)
    adam = torch.optim.Adam(model.parameters(), lr=0.02, betas=(0.0, 0.999))
    start = copy.deepcopy(model.state_dict())
    for seed in range(3):
        episode = tasks(1, seed=seed)
        learner.loss(episode)
        model.load_state_dict(start)
        both = _both(episode)
        for _ in range(3):
            adam.zero_grad()
            task_loss(model(both.x[0]), both.y[0]).backward()  # type: ignore[no-untyped-call]
            adam.step()
    for number, parameter in enumerate(model.parameters()):
        assert torch.allclose(learner.get_buffer(f"square_{number}"), adam.state[parameter]["exp_avg_sq"], rtol=1e-10)
        assert int(learner.get_buffer(f"step_{number}")) == 9
    before = {name: buffer.clone() for name, buffer in learner.named_buffers()}
    learner.eval()
    first = answers(learner, tasks(seed=9))
    assert torch.equal(first, answers(learner, tasks(seed=9)))
    assert all(torch.equal(before[name], buffer) for name, buffer in learner.named_buffers()), "a test leaves no trace"


def test_mini_batches_go_through_all_examples() -> None:
    learner, episode = learner_of(inner_batch=4, optimizer={"name": "sgd"}), tasks()
    seen: list[Tensor] = []
    plain = learner.slopes

    def noted(*args: Any, **kwargs: Any) -> Any:
        seen.append(kwargs["rows"])
        return plain(*args, **kwargs)

    learner.slopes = noted  # type: ignore[method-assign]
    learner.loss(episode)
    assert [part.shape for part in seen] == [(3, 4)] * 3
    assert all(sorted(row) == list(range(12)) for row in torch.cat(seen, 1).tolist()), "each once"
    torch.manual_seed(5)
    one = learner.loss(episode)
    torch.manual_seed(5)
    assert torch.equal(one, learner.loss(episode)), "the seed decides"
    with pytest.raises(SpecError, match="inner_batch"):
        learner_of(inner_batch=0)


def test_its_memory_is_in_the_checkpoint(tmp_path: Any) -> None:
    table = {
        "learner": {"name": "reptile", "outputs": 1},
        "encoder": {"name": "mlp", "shape": [1], "hidden": [4]},
        "data": {"name": "sinusoid"},
        "train": {"steps": 1, "shots": 5, "queries": 5, "batch": 2},
    }
    spec = Spec.of(table)
    learner = build(spec).double()
    learner.loss(FunctionEpisodes(Sinusoid(), shots=5, queries=5, batch=2)[0])
    save_checkpoint(tmp_path / "run", learner.float(), spec, step=1)
    loaded = load_checkpoint(tmp_path / "run").learner
    for name, buffer in learner.named_buffers():
        assert bool(buffer.any()), name
        assert torch.equal(buffer, loaded.get_buffer(name))
