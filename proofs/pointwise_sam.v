(* Theorem T6 (iii): sharpness-aware minimisation with a maximum of its own at every point.

   At one point the loss is |r + delta phi / m|^2. Over |delta| <= rho it is at most (|r| + rho |phi| / m)^2, which the
   step along its gradient reaches; so the mean over points is that of the formula. *)
From mathcomp Require Import all_ssreflect all_algebra ring.
From Flatness Require Import expectation quadratic_rise spectral worst_case.
Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Import GRing.Theory Num.Theory Order.Theory.
Local Open Scope ring_scope.

Section CauchySchwarz.
Variable R : rcfType.

Lemma sqnorm_add n (v w : 'cV[R]_n) : sqnorm (v + w) = sqnorm v + (2%:R * inner v w + sqnorm w).
Proof.
rewrite mulr_sumr -!big_split; apply: eq_bigr => i _ /=.
by rewrite mxE sqrrD mulr_natl addrA.
Qed.

Lemma inner_sqnorm n (v : 'cV[R]_n) : inner v v = sqnorm v.
Proof. by apply: eq_bigr => i _; rewrite expr2. Qed.

Lemma inner_scale_right n a (v w : 'cV[R]_n) : inner v (a *: w) = a * inner v w.
Proof. by rewrite mulr_sumr; apply: eq_bigr => i _; rewrite mxE mulrCA. Qed.

Lemma cauchy_schwarz n (v w : 'cV[R]_n) : inner v w ^+ 2 <= sqnorm v * sqnorm w.
Proof.
have [w0|w0] := eqVneq (sqnorm w) 0.
  have -> : inner v w = 0.
    have /eqP -> : w == 0 by rewrite -sqnorm_eq0 w0.
    by rewrite /inner big1 // => i _; rewrite mxE mulr0.
  by rewrite w0 mulr0 expr0n.
have pos : 0 < sqnorm w by rewrite lt_def w0 sqnorm_ge0.
have := sqnorm_ge0 (sqnorm w *: v + (- inner v w) *: w).
rewrite sqnorm_add !sqnorm_scale inner_scale inner_scale_right.
have expand (a b c : R) : a ^+ 2 * b + (2%:R * (a * (- c * c)) + (- c) ^+ 2 * a) = a * (b * a - c ^+ 2) by ring.
by rewrite expand pmulr_rge0 // subr_ge0.
Qed.

Lemma inner_le n (v w : 'cV[R]_n) : inner v w <= norm v * norm w.
Proof.
have [small|large] := lerP (inner v w) 0.
  by apply: le_trans small _; rewrite mulr_ge0 ?norm_ge0.
have squares := cauchy_schwarz v w; rewrite -!norm_sqr -exprMn in squares.
by rewrite -ler_sqr ?nnegrE // ?mulr_ge0 ?norm_ge0 //; apply: ltW.
Qed.

(* |delta phi| <= |delta| |phi|. *)
Lemma image_le d m (delta : 'M[R]_(d, m)) phi : sqnorm (delta *m phi) <= frobenius2 delta * sqnorm phi.
Proof.
rewrite frobenius2_rows mulr_suml; apply: ler_sum => i _.
apply: le_trans (cauchy_schwarz (row i delta)^T phi); rewrite le_eqVlt; apply/orP; left; apply/eqP; congr (_ ^+ 2).
by rewrite mxE; apply: eq_bigr => j _; rewrite !mxE.
Qed.

End CauchySchwarz.

Section Point.
Variables (R : rcfType) (d m : nat) (r : 'cV[R]_d.+1) (phi : 'cV[R]_m) (rho : R).
Hypothesis rho_ge0 : 0 <= rho.
Notation moved delta := (sqnorm (r + m%:R^-1 *: (delta *m phi))).
Notation formula := ((norm r + rho * norm phi / m%:R) ^+ 2).

Theorem point_bound (delta : 'M[R]_(d.+1, m)) : frobenius2 delta <= rho ^+ 2 -> moved delta <= formula.
Proof.
move=> ball; pose s := m%:R^-1 *: (delta *m phi).
have short : norm s <= rho * norm phi / m%:R.
  rewrite norm_scale ger0_norm ?invr_ge0 ?ler0n // mulrC ler_wpmul2r ?invr_ge0 ?ler0n //.
  rewrite -ler_sqr ?nnegrE ?mulr_ge0 ?norm_ge0 // exprMn !norm_sqr.
  by apply: le_trans (image_le delta phi) _; rewrite ler_wpmul2r ?sqnorm_ge0.
apply: (@le_trans _ _ ((norm r + norm s) ^+ 2)); last first.
  by rewrite ler_sqr ?nnegrE ?addr_ge0 ?norm_ge0 ?divr_ge0 ?mulr_ge0 ?norm_ge0 ?ler0n // ler_add2l.
rewrite sqnorm_add sqrrD !norm_sqr -addrA ler_add2l ler_add2r -[X in _ <= X]mulr_natl ler_wpmul2l ?ler0n //.
exact: inner_le.
Qed.

Theorem point_attained : exists delta : 'M[R]_(d.+1, m), frobenius2 delta <= rho ^+ 2 /\ moved delta = formula.
Proof.
have [u [unit_u along]] : exists u, sqnorm u = 1 /\ r = norm r *: u.
  have [zero|nonzero] := eqVneq r 0.
    exists (delta_mx 0 0); split; first exact: sqnorm_delta.
    by rewrite zero (_ : norm 0 = 0) ?scale0r //; apply/eqP; rewrite norm_eq0.
  have r0 : norm r != 0 by rewrite norm_eq0.
  exists ((norm r)^-1 *: r); split; last by rewrite scalerA mulfV ?scale1r.
  by rewrite sqnorm_scale -norm_sqr exprVn mulVf // expf_neq0.
have lengths (a : R) : sqnorm (norm r *: u + a *: u) = (norm r + a) ^+ 2.
  by rewrite -scalerDl sqnorm_scale unit_u mulr1.
have [zero|nonzero] := eqVneq phi 0.
  exists 0; split; first by rewrite /frobenius2 big1 ?sqr_ge0 // => i _; rewrite big1 // => j _; rewrite mxE expr0n.
  rewrite {1}along mul0mx scaler0 -[0](scale0r u) lengths zero.
  by rewrite (_ : norm 0 = 0) ?mulr0 ?mul0r //; apply/eqP; rewrite norm_eq0.
have p0 : norm phi != 0 by rewrite norm_eq0.
exists ((rho / norm phi) *: (u *m phi^T)); split.
  by rewrite frobenius2_scale frobenius2_outer unit_u mul1r expr_div_n -norm_sqr mulfVK // expf_neq0.
have -> : m%:R^-1 *: (((rho / norm phi) *: (u *m phi^T)) *m phi) = (rho * norm phi / m%:R) *: u.
  rewrite -scalemxAl -mulmxA sqnorm_mul mul_mx_scalar !scalerA -norm_sqr; congr (_ *: _).
  have regroup (i k n : R) : n != 0 -> i * (k / n) * n ^+ 2 = k * n * i by move=> n0; field.
  exact: regroup.
by rewrite {1}along lengths.
Qed.

End Point.

(* The mean over points of (|r| + rho |phi| / m)^2, term by term. *)
Theorem point_mean (R : rcfType) d m T (E : expectation R T) (r : T -> 'cV[R]_d) (phi : T -> 'cV[R]_m) (rho : R) :
  integrable E (fun x => sqnorm (r x)) -> integrable E (fun x => sqnorm (phi x)) ->
  integrable E (fun x => norm (r x) * norm (phi x)) ->
  mean E (fun x => (norm (r x) + rho * norm (phi x) / m%:R) ^+ 2) =
  mean E (fun x => sqnorm (r x)) + (2%:R * rho / m%:R * mean E (fun x => norm (r x) * norm (phi x))
    + rho ^+ 2 / m%:R ^+ 2 * mean E (fun x => sqnorm (phi x))).
Proof.
have expand (a b p k : R) : (a + p * b * k) ^+ 2 = a ^+ 2 + (2%:R * p * k * (a * b) + p ^+ 2 * k ^+ 2 * b ^+ 2) by ring.
move=> int_r int_phi int_cross.
rewrite (@mean_ext _ _ E _ (fun x => sqnorm (r x) + (2%:R * rho / m%:R * (norm (r x) * norm (phi x))
  + rho ^+ 2 / m%:R ^+ 2 * sqnorm (phi x)))); last first.
  by move=> x; rewrite expand !norm_sqr exprVn.
rewrite mean_add //; last by apply: integrable_add; apply: integrable_scale.
by rewrite mean_add ?mean_scale //; apply: integrable_scale.
Qed.
