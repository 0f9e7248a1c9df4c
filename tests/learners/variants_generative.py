"""How the laws try generative learners."""

from typing import Any

from factories import SHAPE, WAYS, Smooth, Variant
from reference_generative import bayesian_maml, metagan, metagan_relation, platipus

from handful.encoders.normalization import Policy

QUERY_LOSS = "test_loss_is_the_query_loss_after_adapting"
DIFFERENCES = "test_meta_gradients_match_finite_differences"
BOUND = {QUERY_LOSS: "its loss is a bound, whose posterior has seen the queries"}
BIAS = {
    "test_every_meta_parameter_gets_a_finite_gradient": "normalization takes the bias before it away, and its variance"
}
CHASER = {
    QUERY_LOSS: "its loss is a distance between particles",
    DIFFERENCES: "the leader moves with the weights, and is held constant",
}
HALVES = {
    QUERY_LOSS: "its loss also asks which examples are generated",
    DIFFERENCES: "each half holds the other's network constant",
}


SMALL = {"fakes": 4, "code": 8, "latent": 4}


class Shaped(Smooth):
    """A smooth encoder that says what it takes."""

    shape = SHAPE


def _platipus(policy: Policy = "none", **options: Any) -> Variant:
    options = {"outputs": WAYS, "inner_rate": 0.4, "samples": 3, "kl_weight": 1e-3, "log_variance": -4.0, **options}
    exempt = BOUND if policy == "none" else BOUND | BIAS
    return Variant("platipus", platipus, policy, options, exempt=exempt)


def _bayesian(policy: Policy = "none", objective: str = "chaser", **options: Any) -> Variant:
    options = {"outputs": WAYS, "inner_rate": 2.0, "particles": 3, "objective": objective, **options}
    return Variant("bayesian_maml", bayesian_maml, policy, options, exempt=CHASER if objective == "chaser" else {})


def _metagan(policy: Policy = "none", *, generator: bool = True, **options: Any) -> Variant:
    options = {"outputs": WAYS, "inner_rate": 0.8, **SMALL, "generator": generator, **options}
    exempt = HALVES if generator else {}
    return Variant("metagan", metagan, policy, options, Shaped, exempt=exempt, toy_rate=0.05)


def _relation(policy: Policy = "none", *, generator: bool = True) -> Variant:
    options = {"hidden": 16, **SMALL, "generator": generator}
    return Variant("metagan_relation", metagan_relation, policy, options, Shaped, exempt=HALVES if generator else {})


GENERATIVE = {
    "platipus": [_platipus(training_samples=2), _platipus("running", engine={"tasks_at_once": 2})],
    "bayesian_maml": [_bayesian(), _bayesian("running", "query")],
    "metagan": [_metagan(inner_steps=2, engine={"tasks_at_once": 2}), _metagan("running"), _metagan(generator=False)],
    "metagan_relation": [_relation(), _relation("running"), _relation(generator=False)],
}
