(* Theorems T2 and T4 for the real numbers, and for the divergence as the paper writes it.

   For p = N(0, I) and p_hat of precision I + A and linear part c, twice KL(p || p_hat) is `bracket A c`: the bracket of
   Eq. (18). It is brought to its eigenvalues here; the worst case and the robust radius then follow for every d and m.
   The reverse divergence and the squared 2-Wasserstein distance are covered eigenvalue by eigenvalue. *)
Require Import Reals.
From mathcomp Require Import all_ssreflect all_algebra ring.
From mathcomp Require Import Rstruct.
From Flatness Require Import quadratic_rise spectral worst_case robust_radius.
From Flatness Require scalar.
Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Import GRing.Theory Num.Theory Order.Theory.
Local Open Scope ring_scope.
(* Sums and products of real numbers are the library's of ordered fields, as everywhere else. *)
Local Bind Scope ring_scope with R.

(* What scalar.v proves, in the words of the theorems that use it. *)
Section Profile.
Variable P : scalar.profile.
Notation term := (scalar.term P).
Notation weight := (scalar.weight P).

Ltac in_range := move=> /andP[/RleP ? /RltP ?].

Lemma term_0 : term 0 = 0.
Proof. exact: scalar.term_at_0. Qed.

Lemma term_ge0 t : 0 <= t < 1 -> 0 <= term (- t).
Proof. in_range; exact/RleP/scalar.term_negative_ge0. Qed.

Lemma weight_ge0 t : 0 <= t < 1 -> 0 <= weight (- t).
Proof. in_range; exact/RleP/scalar.weight_negative_ge0. Qed.

Lemma negative_term t : 0 <= t < 1 -> term t <= term (- t).
Proof. in_range; exact/RleP/scalar.negative_costs_more. Qed.

Lemma negative_weight t : 0 <= t < 1 -> weight t <= weight (- t).
Proof. in_range; exact/RleP/scalar.weight_negative_more. Qed.

Lemma ray_term s t : 0 <= s <= 1 -> 0 <= t < 1 -> term (- (s * t)) <= s ^+ 2 * term (- t).
Proof. by move=> /andP[/RleP ? /RleP ?]; in_range; apply/RleP; rewrite -RpowE; apply: scalar.ray. Qed.

Lemma ray_weight s t : 0 <= s <= 1 -> 0 <= t < 1 -> weight (- (s * t)) <= weight (- t).
Proof. by move=> /andP[/RleP ? /RleP ?]; in_range; apply/RleP/scalar.weight_ray. Qed.

Lemma chord s t : 0 <= s <= 1 -> 0 <= t -> s ^+ 2 * term t <= term (s * t).
Proof. by move=> /andP[/RleP ? /RleP ?] /RleP ?; apply/RleP; rewrite -RpowE; apply: scalar.chord. Qed.

Lemma slope t c : 0 <= t -> term (Num.sqrt (t ^+ 2 + c ^+ 2)) <= term t + c ^+ 2 * weight t.
Proof.
move=> t0; rewrite -RsqrtE; last by rewrite addr_ge0 ?sqr_ge0.
by rewrite -!RpowE; apply/RleP/scalar.mean_part/RleP.
Qed.

Lemma term_increasing s t : 0 <= s <= t -> term s <= term t.
Proof. by move=> /andP[/RleP ? /RleP ?]; apply/RleP/scalar.term_increasing. Qed.

Definition worst_case_of_profile := worst_case_bound term_0 term_ge0 weight_ge0 negative_term negative_weight
  ray_term ray_weight.
Definition gap_of_profile := gap_bound term_0 negative_term negative_weight chord slope.

End Profile.

(* -log det(I + A) + tr A + c^T (I + A)^-1 c, twice the divergence of Eq. (18) and Corollary 3.9's first line. *)
Definition bracket d (A : 'M[R]_d) (c : 'cV[R]_d) : R :=
  - ln (\det (1%:M + A)) + \tr A + (c^T *m invmx (1%:M + A) *m c) 0 0.

Lemma ln_prod (I : finType) (F : I -> R) : (forall i, 0 < F i) -> ln (\prod_i F i) = \sum_i ln (F i).
Proof.
move=> positive; suff [] : 0 < \prod_i F i /\ ln (\prod_i F i) = \sum_i ln (F i) by [].
elim/big_rec2: _ => [|i s p _ [p0 IH]]; first by split; [exact: ltr01 | exact: ln_1].
split; first exact: mulr_gt0.
by rewrite -RmultE ln_mult -?IH //; apply/RltP.
Qed.

Lemma bracket_over_eigenvalues d (A O : 'M[R]_d) tau c : O^T *m O = 1%:M -> A = O *m diag_mx tau *m O^T ->
  (forall i, -1 < tau 0 i) -> bracket A c = divergence (scalar.term scalar.kl) (scalar.weight scalar.kl) O tau c.
Proof.
move=> orthogonal A_tau above.
have positive i : 0 < 1 + tau 0 i by rewrite -(ltr_add2l (-1)) addrA addNr add0r addr0.
have nonzero i : 1 + tau 0 i != 0 by rewrite gt_eqF.
pose sum : 'rV[R]_d := \row_i (1 + tau 0 i); pose inverse : 'rV[R]_d := \row_i (1 + tau 0 i)^-1.
have precision : 1%:M + A = O *m diag_mx sum *m O^T.
  have -> : diag_mx sum = 1%:M + diag_mx tau.
    by apply/matrixP => i j; rewrite !mxE; case: (i =P j) => _; rewrite ?mulr1n ?mulr0n ?addr0.
  by rewrite mulmxDr mulmx1 mulmxDl (mulmx1C orthogonal) A_tau.
have unit_O : \det O * \det O^T = 1 by rewrite -det_mulmx (mulmx1C orthogonal) det1.
have det_sum : \det (1%:M + A) = \prod_i (1 + tau 0 i).
  rewrite precision !det_mulmx mulrAC unit_O mul1r det_diag.
  by apply: eq_bigr => i _; rewrite mxE.
have inverse_is : (1%:M + A) *m (O *m diag_mx inverse *m O^T) = 1%:M.
  rewrite precision -!mulmxA [O^T *m (O *m _)]mulmxA orthogonal mul1mx [diag_mx sum *m (_ *m _)]mulmxA mulmx_diag.
  rewrite (_ : diag_mx _ = 1%:M) ?mul1mx ?(mulmx1C orthogonal) //.
  by apply/matrixP => i j; rewrite !mxE mulfV.
have inv : invmx (1%:M + A) = O *m diag_mx inverse *m O^T.
  by have [unit_P _] := mulmx1_unit inverse_is; rewrite -[RHS](mulKmx unit_P) inverse_is mulmx1.
rewrite /bracket det_sum ln_prod // inv A_tau.
have -> : \tr (O *m diag_mx tau *m O^T) = \sum_i tau 0 i.
  by rewrite mxtrace_mulC mulmxA orthogonal mul1mx mxtrace_diag.
have -> : (c^T *m (O *m diag_mx inverse *m O^T) *m c) 0 0 = \sum_i (1 + tau 0 i)^-1 * (O^T *m c) i 0 ^+ 2.
  rewrite -(quadratic_mul (O *m diag_mx inverse *m O^T)) quadratic_turned.
  by apply: eq_bigr => i _; rewrite mxE.
rewrite -sumrN -!big_split; apply: eq_bigr => i _ /=.
by rewrite RinvE // [X in X + _]addrC mulrC.
Qed.

(* T2 for KL(p || p_hat), in full: linear activation, any W and b, every admissible delta in the Frobenius ball. The
   largest bracket is the largest `along` of a unit vector. *)
Section WorstCase.
Variables (d m : nat) (W : 'M[R]_(d.+1, m.+1)) (b : 'cV[R]_m.+1) (Delta : R).
Hypothesis Delta_ge0 : 0 <= Delta.
Let eta := Delta / m.+1%:R.
Hypothesis inside : forall v, sqnorm v = 1 -> eta * norm (W *m v) < 1.

(* -t - log(1 - t) + eta^2 (v^T b)^2 / (1 - t) at t = eta |W v|. *)
Definition kl_along (v : 'cV[R]_m.+1) : R := along (scalar.term scalar.kl) (scalar.weight scalar.kl) W b eta v.

Lemma kl_alongE v : sqnorm v = 1 -> kl_along v =
  - (eta * norm (W *m v)) - ln (1 - eta * norm (W *m v)) + (eta * inner v b) ^+ 2 / (1 - eta * norm (W *m v)).
Proof.
move=> unit_v; rewrite /kl_along /along /=; congr (_ + _ * _).
by rewrite -RinvE // gt_eqF // subr_gt0 inside.
Qed.

Let A (delta : 'M[R]_(d.+1, m.+1)) := m.+1%:R^-1 *: (delta *m W^T).
Let c (delta : 'M[R]_(d.+1, m.+1)) := m.+1%:R^-1 *: (delta *m b).

Theorem kl_worst_case_bound delta most : delta *m W^T = W *m delta^T -> frobenius2 delta <= Delta ^+ 2 ->
  (forall v, sqnorm v = 1 -> kl_along v <= most) -> bracket (A delta) (c delta) <= most.
Proof.
move=> admissible ball above; pose D := m.+1%:R^-1 *: delta.
have AD : A delta = D *m W^T by rewrite /A /D scalemxAl.
have cD : c delta = D *m b by rewrite /c /D scalemxAl.
have admissible_D : D *m W^T = W *m D^T by rewrite /D -scalemxAl admissible linearZ /= scalemxAr.
have ball_D : frobenius2 D <= eta ^+ 2.
  by rewrite /D frobenius2_scale /eta exprMn mulrC ler_wpmul2l // sqr_ge0.
have symmetric : (D *m W^T)^T = D *m W^T by rewrite trmx_mul trmxK -admissible_D.
have [O [tau [orthogonal diagonal]]] := spectral_theorem symmetric.
have eta0 : 0 <= eta by rewrite divr_ge0 ?ler0n.
rewrite AD cD (bracket_over_eigenvalues _ orthogonal diagonal) => [|i]; last first.
  have := eigenvalue_inside eta0 inside orthogonal admissible_D diagonal ball_D i.
  by rewrite ltr_norml => /andP[].
exact: (worst_case_of_profile eta0 inside orthogonal admissible_D diagonal ball_D above).
Qed.

Theorem kl_worst_case_attained v : sqnorm v = 1 -> exists delta : 'M[R]_(d.+1, m.+1),
  [/\ delta *m W^T = W *m delta^T, frobenius2 delta = Delta ^+ 2 & bracket (A delta) (c delta) = kl_along v].
Proof.
move=> unit_v.
have [D [O [tau [orthogonal admissible diagonal size value]]]] :=
  worst_case_attained (scalar.weight scalar.kl) (term_0 scalar.kl) W b eta unit_v.
have m0 : m.+1%:R != 0 :> R by rewrite pnatr_eq0.
have eta0 : 0 <= eta by rewrite divr_ge0 ?ler0n.
exists (m.+1%:R *: D).
have scaled (k : nat) (M : 'M[R]_(_, k)) : m.+1%:R^-1 *: ((m.+1%:R *: D) *m M) = D *m M.
  by rewrite -scalemxAl scalerA mulVf ?scale1r.
split.
- by rewrite -scalemxAl admissible linearZ /= scalemxAr.
- by rewrite frobenius2_scale size /eta -exprMn mulrC mulfVK.
rewrite /A /c !scaled (bracket_over_eigenvalues _ orthogonal diagonal) //.
move=> i; have := eigenvalue_inside eta0 inside orthogonal admissible diagonal _ i.
by rewrite size lexx => /(_ isT); rewrite ltr_norml => /andP[].
Qed.

End WorstCase.

(* T4 for KL(p || p_hat), in full. The rise is J at G = W^T W + b b^T (robust_radius.v: what E[phi phi^T] is). *)
Section Radius.
Variables (d m : nat) (W : 'M[R]_(d.+1, m.+1)) (b : 'cV[R]_m.+1).
Notation G := (W^T *m W + b *m b^T).
Let A (delta : 'M[R]_(d.+1, m.+1)) := m.+1%:R^-1 *: (delta *m W^T).
Let c (delta : 'M[R]_(d.+1, m.+1)) := m.+1%:R^-1 *: (delta *m b).

Definition positive_definite n (M : 'M[R]_n) : Prop := forall v, v != 0 -> 0 < quadratic M v.

(* sqrt(kappa) - log(1 + sqrt(kappa)). *)
Definition kl_radius (kappa : R) : R := Num.sqrt kappa - ln (1 + Num.sqrt kappa).

Theorem kl_gap_bound delta kappa : delta *m W^T = W *m delta^T -> positive_definite (1%:M + A delta) ->
  0 <= kappa <= J G delta -> kl_radius kappa <= bracket (A delta) (c delta).
Proof.
move=> admissible positive /andP[kappa0 most]; pose D := m.+1%:R^-1 *: delta.
have AD : A delta = D *m W^T by rewrite /A /D scalemxAl.
have cD : c delta = D *m b by rewrite /c /D scalemxAl.
have symmetric : (D *m W^T)^T = D *m W^T.
  by rewrite /D -scalemxAl admissible linearZ /= trmx_mul trmxK admissible.
have [O [tau [orthogonal diagonal]]] := spectral_theorem symmetric.
have above i : -1 < tau 0 i.
  have := positive (col i O); rewrite AD.
  have -> : quadratic (1%:M + D *m W^T) (col i O) = 1 + tau 0 i.
    have one : 1%:M = O *m diag_mx (const_mx 1) *m O^T by rewrite diag_const_mx mulmx1 (mulmx1C orthogonal).
    rewrite quadratic_mul mulmxDr mulmxDl mxE -!quadratic_mul one diagonal !quadratic_turned.
    have image : O^T *m col i O = delta_mx i 0 by rewrite colE mulmxA orthogonal mul1mx.
    have pick (f : 'rV[R]_d.+1) : \sum_j f 0 j * (O^T *m col i O) j 0 ^+ 2 = f 0 i.
      rewrite image (bigD1 i) //= big1 => [|j /negPf ji]; first by rewrite mxE !eqxx expr1n mulr1 addr0.
      by rewrite mxE ji expr0n mulr0.
    by rewrite !pick mxE.
  have -> : (-1 < tau 0 i) = (0 < 1 + tau 0 i) by rewrite -(ltr_add2l 1) subrr.
  apply.
  by rewrite -sqnorm_eq0 (unit_column orthogonal) oner_eq0.
rewrite AD cD (bracket_over_eigenvalues _ orthogonal diagonal above).
apply: le_trans (gap_of_profile scalar.kl b orthogonal diagonal above).
rewrite -J_linear -[kl_radius kappa]/(scalar.term scalar.kl (Num.sqrt kappa)); apply: term_increasing.
by rewrite sqrtr_ge0 /= ler_wsqrtr.
Qed.

Theorem kl_gap_attained w kappa : inner w b = 0 -> W *m w != 0 -> 0 <= kappa ->
  exists delta : 'M[R]_(d.+1, m.+1), [/\ delta *m W^T = W *m delta^T, positive_definite (1%:M + A delta),
    J G delta = kappa & bracket (A delta) (c delta) = kl_radius kappa].
Proof.
move=> orth nonzero kappa0.
have [D [O [tau [orthogonal admissible diagonal tau0 [rise value]]]]] :=
  gap_attained (scalar.weight scalar.kl) (term_0 scalar.kl) orth nonzero (sqrtr_ge0 kappa).
have m0 : m.+1%:R != 0 :> R by rewrite pnatr_eq0.
exists (m.+1%:R *: D).
have scaled (k : nat) (M : 'M[R]_(_, k)) : m.+1%:R^-1 *: ((m.+1%:R *: D) *m M) = D *m M.
  by rewrite -scalemxAl scalerA mulVf ?scale1r.
split.
- by rewrite -scalemxAl admissible linearZ /= scalemxAr.
- move=> v v0; rewrite /A scaled diagonal.
  rewrite quadratic_mul mulmxDr mulmxDl mxE -!quadratic_mul quadratic_turned ltr_paddr //.
    by apply: sumr_ge0 => i _; apply: mulr_ge0; rewrite ?sqr_ge0 ?tau0.
  rewrite quadratic_mul mulmx1 sqnorm_mul mxE eqxx mulr1n.
  by rewrite lt_def sqnorm_eq0 v0 sqnorm_ge0.
- by rewrite J_linear scalerA mulVf // scale1r rise sqr_sqrtr.
rewrite /A /c !scaled (bracket_over_eigenvalues _ orthogonal diagonal) //.
by move=> i; apply: lt_le_trans (tau0 i); rewrite ltrN10.
Qed.

End Radius.
