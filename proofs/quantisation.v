(* Theorem T5: what rounding the weights costs.

   (i) Dither: errors of variance q^2 / 12, whatever their law, as long as they have mean 0 and are uncorrelated within
   each row. (That a uniform offset gives this variance is scalar.v's `dither_variance`.) (ii) Stochastic rounding: the
   law itself, over all 2^(d m) outcomes. (iii) The worst rounding to the nearest point. *)
From mathcomp Require Import all_ssreflect all_algebra ring.
From Flatness Require Import expectation quadratic_rise.
Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Import GRing.Theory Num.Theory Order.Theory.
Local Open Scope ring_scope.

(* Errors drawn for each weight on its own, from a law on finitely many values. *)
Section IndependentErrors.
Variables (R : realFieldType) (d m : nat) (V : finType).
Variables (weight error : 'I_d -> 'I_m -> V -> R) (variance : 'I_d -> 'I_m -> R).
Hypothesis positive : forall i j v, 0 <= weight i j v.
Hypothesis total : forall i j, \sum_v weight i j v = 1.
Hypothesis zero : forall i j, \sum_v weight i j v * error i j v = 0.
Hypothesis square : forall i j, \sum_v weight i j v * error i j v ^+ 2 = variance i j.

Definition errors_law : expectation R {ffun 'I_d * 'I_m -> V} :=
  independent (fun ij => positive ij.1 ij.2) (fun ij => total ij.1 ij.2).
Definition errors (outcome : {ffun 'I_d * 'I_m -> V}) : 'M[R]_(d, m) := \matrix_(i, j) error i j (outcome (i, j)).

Lemma errors_mean i j : mean errors_law (fun w => errors w i j) = 0.
Proof.
rewrite -(zero i j) -(@mean_of_one _ _ _ _ (fun ij => positive ij.1 ij.2) (fun ij => total ij.1 ij.2) (i, j)).
by apply: mean_ext => w; rewrite mxE.
Qed.

Lemma errors_uncorrelated i j k :
  mean errors_law (fun w => errors w i j * errors w i k) = if j == k then variance i j else 0.
Proof.
case: eqP => [<- | /eqP jk].
  rewrite -(square i j) -(@mean_of_one _ _ _ _ (fun ij => positive ij.1 ij.2) (fun ij => total ij.1 ij.2) (i, j)
    (fun v => error i j v ^+ 2)).
  by apply: mean_ext => w; rewrite mxE expr2.
have ij_ik : (i, j) != (i, k) by apply: contra jk => /eqP[->].
rewrite (@mean_ext _ _ errors_law _ (fun w => error i j (w (i, j)) * error i k (w (i, k)))); last first.
  by move=> w; rewrite !mxE.
by rewrite (mean_of_two (fun ij => positive ij.1 ij.2) (fun ij => total ij.1 ij.2) _ _ ij_ik) !zero mulr0.
Qed.

End IndependentErrors.

Section Quantisation.
Variables (R : realFieldType) (d m : nat) (T : Type) (E : expectation R T).
Variables (phi : T -> 'cV[R]_m) (g : T -> 'cV[R]_d).
Hypothesis phi_phi : forall j k, integrable E (fun x => phi x j 0 * phi x k 0).
Hypothesis g_phi : forall i j, integrable E (fun x => g x i 0 * phi x j 0).
Hypothesis g_g : forall i, integrable E (fun x => g x i 0 ^+ 2).
Notation L := (loss E phi g).
Notation G := (second_moment E phi).

(* T5 (i). *)
Theorem dither_rise Omega (N : expectation R Omega) (noise : Omega -> 'M[R]_(d, m)) theta q :
  (forall i j, integrable N (fun w => noise w i j)) ->
  (forall i j k, integrable N (fun w => noise w i j * noise w i k)) ->
  (forall i j, mean N (fun w => noise w i j) = 0) ->
  (forall i j k, mean N (fun w => noise w i j * noise w i k) = if j == k then q ^+ 2 / 12%:R else 0) ->
  mean N (fun w => L (theta + noise w)) = L theta + q ^+ 2 / 12%:R * d%:R * \tr G / m%:R ^+ 2.
Proof.
move=> entries products zero variance.
exact: (rise_under_equal_noise phi_phi g_phi g_g entries products zero variance).
Qed.

(* T5 (ii): weight theta_ij lies the fraction f_ij of a step q above the grid point below it, and goes up with
   probability f_ij. *)
Section Stochastic.
Variables (q : R) (f : 'I_d -> 'I_m -> R).
Hypothesis fraction : forall i j, 0 <= f i j <= 1.

Definition chance (i : 'I_d) (j : 'I_m) (up : bool) : R := if up then f i j else 1 - f i j.
Definition step_error (i : 'I_d) (j : 'I_m) (up : bool) : R := if up then q * (1 - f i j) else - (q * f i j).

Lemma chance_ge0 i j up : 0 <= chance i j up.
Proof. by have /andP[? ?] := fraction i j; case: up; rewrite /= ?subr_ge0. Qed.

Lemma chance_total i j : \sum_up chance i j up = 1.
Proof. by rewrite big_bool /= addrC subrK. Qed.

Lemma step_error_mean i j : \sum_up chance i j up * step_error i j up = 0.
Proof. rewrite big_bool /=; ring. Qed.

Lemma step_error_variance i j : \sum_up chance i j up * step_error i j up ^+ 2 = q ^+ 2 * (f i j * (1 - f i j)).
Proof. rewrite big_bool /=; ring. Qed.

Definition stochastic_rounding := errors_law chance_ge0 chance_total.

Theorem stochastic_rise theta :
  mean stochastic_rounding (fun w => L (theta + errors step_error w)) =
  L theta + (\sum_i \sum_j q ^+ 2 * (f i j * (1 - f i j)) * G j j) / m%:R ^+ 2.
Proof.
apply: (rise_under_noise phi_phi g_phi g_g (variance := fun i j => q ^+ 2 * (f i j * (1 - f i j)))) => //.
  exact: errors_mean step_error_mean.
exact: errors_uncorrelated step_error_mean step_error_variance.
Qed.

End Stochastic.

(* T5 (iii): no error above q / 2, at a minimum. *)
Theorem worst_rounding (theta delta : 'M[R]_(d, m)) top q : minimum E phi g theta -> largest G top ->
  m%:R != 0 :> R -> 0 <= q ->
  (forall i j, `|delta i j| <= q / 2%:R) -> L (theta + delta) <= L theta + q ^+ 2 * d%:R * top / (4%:R * m%:R).
Proof.
move=> least top_G m0 q0 small; rewrite (rise_at_a_minimum phi_phi g_phi g_g) // ler_add2l.
apply: (le_trans (quadratic_le_J delta top_G.1)).
have size : frobenius2 delta <= d%:R * (m%:R * (q ^+ 2 / 4%:R)).
  have cell i j : delta i j ^+ 2 <= q ^+ 2 / 4%:R.
    rewrite -real_normK ?num_real // (_ : _ / _ = (q / 2%:R) ^+ 2); last by field.
    by rewrite ler_sqr ?nnegrE ?divr_ge0 ?ler0n.
  have -> : d%:R * (m%:R * (q ^+ 2 / 4%:R)) = \sum_(i < d) \sum_(j < m) q ^+ 2 / 4%:R.
    by rewrite !sumr_const !card_ord -!(mulr_natl (_ *+ _)) -!(mulr_natl (q ^+ 2 / _)).
  by rewrite /frobenius2; do 2!apply: ler_sum => ? _.
have -> : q ^+ 2 * d%:R * top / (4%:R * m%:R) = top * (d%:R * (m%:R * (q ^+ 2 / 4%:R))) / m%:R ^+ 2.
  by field.
rewrite ler_wpmul2r ?invr_ge0 ?exprn_ge0 ?ler0n // ler_wpmul2l //.
exact: (largest_ge0 phi_phi top_G).
Qed.

(* With min-max scaling the step is a multiple of max |theta|: the cost is that of theta / a with a phi. *)
Theorem min_max_rise_stays q a : a != 0 ->
  (q / a) ^+ 2 / 12%:R * d%:R * \tr (a ^+ 2 *: G) / m%:R ^+ 2 = q ^+ 2 / 12%:R * d%:R * \tr G / m%:R ^+ 2.
Proof.
have regroup (e c t k h i : R) : e * c^-1 * k * h * (c * t) * i = c^-1 * c * (e * k * h * t * i) by ring.
by move=> a0; rewrite linearZ expr_div_n /= regroup mulVf ?mul1r // expf_neq0.
Qed.

End Quantisation.
