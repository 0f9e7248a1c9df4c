import pytest
import torch
from torch import Tensor, nn

from handful.encoders import Identity
from handful.episode import Support
from handful.errors import SpecError, UnknownNameError
from handful.learners import MetaLSTM

pytestmark = pytest.mark.usefixtures("float64")

FORMS = ("update", "hyper", "optimizer")


def learner_of(form: str) -> MetaLSTM:
    torch.manual_seed(1)
    return MetaLSTM(Identity(shape=(3,)), outputs=3, form=form, hidden=5, meta_hidden=4, rank=2)  # type: ignore[arg-type]


def supports(batch: int = 2) -> Support:
    y = torch.stack([torch.randperm(6) % 3 for _ in range(batch)])
    return Support(torch.randn(batch, 6, 3), y, 3)


def by_torch(learner: MetaLSTM, support: Support, query: Tensor) -> Tensor:
    """The answers of torch's own LSTM with the base weights, every query at the end of a sequence of its own."""
    lstm = nn.LSTM(6, 5, batch_first=True)
    with torch.no_grad():
        lstm.weight_ih_l0.copy_(learner.weights[:, :6])
        lstm.weight_hh_l0.copy_(learner.weights[:, 6:11])
        lstm.bias_ih_l0.copy_(learner.weights[:, 11])
        lstm.bias_hh_l0.zero_()
    assert isinstance(support.x, Tensor)
    labels = torch.eye(3)[support.y]
    shown = torch.cat([torch.zeros_like(labels[:, :1]), labels], 1)
    rows = [torch.cat([torch.cat([support.x, query[:, q, None]], 1), shown], -1) for q in range(query.shape[1])]
    return torch.stack([learner.output(lstm(row)[0][:, -1]) for row in rows], 1)


def test_without_a_meta_lstm_it_is_a_plain_lstm() -> None:
    learner, support, query = learner_of("none"), supports(), torch.randn(2, 4, 3)
    assert torch.allclose(learner.predict(learner.adapt(support), query), by_torch(learner, support, query))
    assert [name for name, _ in learner.named_parameters()] == ["weights", "output.weight", "output.bias"]
    assert float(learner.weights[5:10, -1].mean().detach()) > 0.5, "it forgets little at first"


@pytest.mark.parametrize("form", FORMS)
def test_with_zero_updates_it_is_a_plain_lstm_exactly(form: str) -> None:
    learner, support, query = learner_of(form), supports(), torch.randn(2, 4, 3)
    moved = learner.predict(learner.adapt(support), query)
    with torch.no_grad():
        (learner.meta.step if form == "optimizer" else learner.meta.z).weight.zero_()  # type: ignore[union-attr]
    still = learner.predict(learner.adapt(support), query)
    plain = learner_of("none")
    plain.load_state_dict({name: leaf for name, leaf in learner.state_dict().items() if not name.startswith("meta.")})
    assert torch.equal(still, plain.predict(plain.adapt(support), query))
    assert not torch.allclose(moved, still)


def test_update_with_nothing_kept_falls_back_at_every_step() -> None:
    """ρ = 0: the weights are W_0 and the newest change; ρ = 1: all changes add up."""
    learner, support = learner_of("update"), supports()
    assert not isinstance(learner.meta, type(None))
    first = learner.weights
    steps: list[Tensor] = []
    learner.meta.register_forward_hook(lambda module, inputs, output: steps.append(output[0]))
    with torch.no_grad():
        learner.meta.keep.weight.zero_()  # type: ignore[union-attr]
        learner.meta.keep.bias.fill_(-800.0)  # type: ignore[union-attr]
        learner.adapt(support)
        ranks = [torch.linalg.matrix_rank((step - first)[0, :5]) for step in steps]
        assert [int(rank) for rank in ranks] == [2] * 6, "of each gate"
        learner.meta.keep.bias.fill_(800.0)  # type: ignore[union-attr]
        steps.clear()
        state = learner.adapt(support)
        assert torch.equal(state.weights, steps[-1])
        changes = [after - before for before, after in zip([first, *steps], steps, strict=False)]
        assert int(torch.linalg.matrix_rank(changes[-1][0, :5])) == 2


def test_the_optimizer_can_be_taught_to_fit_the_support() -> None:
    """Steps against the gradient's sign lower the loss that they are told of."""
    learner, support = learner_of("optimizer"), supports()
    labels, weights = torch.eye(3)[support.y], learner.weights.repeat(2, 1, 1)

    def losses(own: Tensor) -> Tensor:
        return learner._support_losses(support.x, labels, support.y, own)  # type: ignore[arg-type]

    optimizer = torch.optim.Adam(learner.meta.parameters(), 0.01)  # type: ignore[union-attr]
    before = float(losses(weights).sum().detach())
    for _ in range(40):
        optimizer.zero_grad()
        losses(learner.meta(losses, weights.detach(), 10)).sum().backward()  # type: ignore[misc,no-untyped-call]
        optimizer.step()
    assert float(losses(learner.meta(losses, weights, 10)).sum().detach()) < 0.9 * before  # type: ignore[misc]


def test_other_forms_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="hyper, none, optimizer, update"):
        learner_of("updates")
    with pytest.raises(SpecError, match="inner_steps of at least 1"):
        MetaLSTM(Identity(shape=(3,)), form="optimizer", inner_steps=0)
