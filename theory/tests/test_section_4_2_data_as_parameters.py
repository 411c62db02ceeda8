from theory.claims.section_4_2_data_as_parameters import STATEMENT, blurred, check_blur
from theory.proof.statement import Evidence
from theory.proof.testing import every_evidence, finds_violation, require


@every_evidence(STATEMENT)
def test_evidence(evidence: Evidence) -> None:
    require(evidence)


def test_the_other_sign_is_noticed() -> None:
    import dataclasses

    def turned(instance):  # type: ignore[no-untyped-def]
        perturbed, strength = instance
        return dataclasses.replace(perturbed, delta=-perturbed.delta), strength

    assert finds_violation(blurred().map(turned), check_blur)
