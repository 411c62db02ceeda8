(* Theorem T4: a perturbation that raises the loss by J lies at least a distance away that depends on J alone.

   J is |A|^2 + |c|^2, A = D W^T, c = D b, D = delta / m: a sum over eigenvalues, as the divergence is. Its square root
   on one eigenvalue alone is the cheapest way of having it. *)
From mathcomp Require Import all_ssreflect all_algebra ring.
From Flatness Require Import expectation quadratic_rise spectral worst_case.
Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Import GRing.Theory Num.Theory Order.Theory.
Local Open Scope ring_scope.

(* E[phi phi^T] for phi = W^T x + b where x has mean 0 and covariance I. *)
Section LinearFeatures.
Variables (R : realFieldType) (d m : nat) (T : Type) (E : expectation R T) (x : T -> 'cV[R]_d).
Variables (W : 'M[R]_(d, m)) (b : 'cV[R]_m).
Hypothesis entries : forall i, integrable E (fun t => x t i 0).
Hypothesis products : forall i k, integrable E (fun t => x t i 0 * x t k 0).
Hypothesis centred : forall i, mean E (fun t => x t i 0) = 0.
Hypothesis white : forall i k, mean E (fun t => x t i 0 * x t k 0) = (i == k)%:R.

Lemma second_moment_linear : second_moment E (fun t => W^T *m x t + b) = W^T *m W + b *m b^T.
Proof.
apply/matrixP => j k; rewrite !mxE big_ord1 !mxE.
pose lin j t := \sum_i W i j * x t i 0.
have int_lin n : integrable E (lin n) by apply: integrable_sum => i; apply: integrable_scale.
pose square t := \sum_i \sum_l W i j * W l k * (x t i 0 * x t l 0).
have int_square : integrable E square by do 2!apply: integrable_sum => ?; apply: integrable_scale.
rewrite (@mean_ext _ _ E _ (fun t => square t + (b k 0 * lin j t + (b j 0 * lin k t + b j 0 * b k 0)))); last first.
  have expand (p q r s : R) : (p + r) * (q + s) = p * q + (s * p + (r * q + r * s)) by ring.
  move=> t; rewrite !mxE.
  have linE n : \sum_i W^T n i * x t i 0 = lin n t by apply: eq_bigr => i _; rewrite mxE.
  rewrite !linE.
  have -> : square t = lin j t * lin k t.
    rewrite /square mulr_suml; apply: eq_bigr => i _; rewrite mulr_sumr; apply: eq_bigr => l _.
    by rewrite mulrACA.
  exact: expand.
have mean_lin n : mean E (lin n) = 0.
  rewrite mean_sum => [|i]; last exact: integrable_scale.
  by rewrite big1 // => i _; rewrite mean_scale // centred mulr0.
have int_rest : integrable E (fun t => b j 0 * lin k t + b j 0 * b k 0).
  by apply: integrable_add; [apply: integrable_scale | apply: integrable_cst].
rewrite mean_add //; last by apply: integrable_add => //; apply: integrable_scale.
rewrite mean_add //; last exact: integrable_scale.
rewrite mean_add //; [|exact: integrable_scale|exact: integrable_cst].
rewrite (mean_scale (b k 0) (int_lin j)) (mean_scale (b j 0) (int_lin k)) !mean_lin !mulr0 !add0r mean_cst; congr (_ + _).
rewrite mean_sum => [|i]; last by apply: integrable_sum => l; apply: integrable_scale.
apply: eq_bigr => i _; rewrite mean_sum => [|l]; last exact: integrable_scale.
rewrite (bigD1 i) //= big1 => [|l /negPf li]; first by rewrite mean_scale // white eqxx mulr1 addr0 mxE.
by rewrite mean_scale // white eq_sym li mulr0.
Qed.

Lemma J_linear (delta : 'M[R]_(d, m)) : J (W^T *m W + b *m b^T) delta =
  frobenius2 ((m%:R^-1 *: delta) *m W^T) + sqnorm ((m%:R^-1 *: delta) *m b).
Proof.
rewrite -!scalemxAl frobenius2_scale (_ : sqnorm _ = m%:R^-1 ^+ 2 * sqnorm (delta *m b)); last first.
  by rewrite mulr_sumr; apply: eq_bigr => i _; rewrite mxE exprMn.
rewrite -mulrDr mulrC exprVn; congr (_ / _); rewrite frobenius2_trace mulmxDr mulmxDl linearD /=.
congr (_ + _); first by rewrite trmx_mul trmxK !mulmxA.
rewrite mulmxA -mulmxA -trmx_mul -(frobenius2_trace (delta *m b)) /frobenius2.
by apply: eq_bigr => i _; rewrite big_ord1.
Qed.

End LinearFeatures.

Section Radius.
Variables (R : rcfType) (term weight : R -> R).
Hypothesis term_0 : term 0 = 0.
Hypothesis negative_term : forall t, 0 <= t < 1 -> term t <= term (- t).
Hypothesis negative_weight : forall t, 0 <= t < 1 -> weight t <= weight (- t).
(* term(sqrt y) is concave in y and 0 at 0: a chord lies below. *)
Hypothesis chord : forall s t, 0 <= s <= 1 -> 0 <= t -> s ^+ 2 * term t <= term (s * t).
(* The mean's part costs no less than the slope of term(sqrt y). *)
Hypothesis slope : forall t c, 0 <= t -> term (Num.sqrt (t ^+ 2 + c ^+ 2)) <= term t + c ^+ 2 * weight t.

(* Of several shares, together at least what one costs that is as large as all. *)
Lemma spread_costs_more (I : finType) (y : I -> R) : (forall i, 0 <= y i) ->
  term (Num.sqrt (\sum_i y i)) <= \sum_i term (Num.sqrt (y i)).
Proof.
move=> y0; pose S := \sum_i y i; have S0 : 0 <= S by apply: sumr_ge0.
have [zero|nonzero] := eqVneq S 0.
  rewrite -/S zero sqrtr0 term_0 big1 // => i _.
  have /eqP := zero; rewrite psumr_eq0 => [/allP /(_ i)|//].
  by rewrite mem_index_enum => /(_ isT) /eqP ->; rewrite sqrtr0.
have -> : term (Num.sqrt (\sum_i y i)) = \sum_i y i / S * term (Num.sqrt S).
  by rewrite -mulr_suml -mulr_suml mulfV // mul1r.
apply: ler_sum => i _; have share : 0 <= y i / S by apply: divr_ge0.
have most : y i / S <= 1.
  rewrite ler_pdivr_mulr ?mul1r ?lt_def ?nonzero // /S (bigD1 i) //= ler_addl.
  exact: sumr_ge0.
have -> : y i / S * term (Num.sqrt S) = Num.sqrt (y i / S) ^+ 2 * term (Num.sqrt S) by rewrite sqr_sqrtr.
have -> : Num.sqrt (y i) = Num.sqrt (y i / S) * Num.sqrt S by rewrite -sqrtrM // mulfVK.
by apply: chord; rewrite ?sqrtr_ge0 //= -[X in _ <= X]sqrtr1 ler_wsqrtr.
Qed.

Variables (d m : nat) (W : 'M[R]_(d, m)) (b : 'cV[R]_m).

Section Lower.
Variables (D : 'M[R]_(d, m)) (O : 'M[R]_d) (tau : 'rV[R]_d).
Hypothesis orthogonal : O^T *m O = 1%:M.
Hypothesis diagonal : D *m W^T = O *m diag_mx tau *m O^T.

Lemma rise_over_eigenvalues :
  frobenius2 (D *m W^T) + sqnorm (D *m b) = \sum_i (tau 0 i ^+ 2 + (O^T *m (D *m b)) i 0 ^+ 2).
Proof.
rewrite big_split /= -/(sqnorm (O^T *m (D *m b))) (sqnorm_turned _ orthogonal); congr (_ + _).
rewrite frobenius2_trace diagonal !trmx_mul trmxK tr_diag_mx !mulmxA -[_ *m O^T *m O]mulmxA orthogonal mulmx1.
rewrite mxtrace_mulC !mulmxA orthogonal mul1mx mulmx_diag mxtrace_diag.
by apply: eq_bigr => i _; rewrite mxE expr2.
Qed.

(* T4, no admissible and normalisable perturbation (every eigenvalue above -1) is nearer than its rise demands. *)
Theorem gap_bound : (forall i, -1 < tau 0 i) ->
  term (Num.sqrt (frobenius2 (D *m W^T) + sqnorm (D *m b))) <= divergence term weight O tau (D *m b).
Proof.
move=> normalisable; rewrite rise_over_eigenvalues.
apply: le_trans (spread_costs_more _) _ => [i|]; first by rewrite addr_ge0 ?sqr_ge0.
apply: ler_sum => i _; set c := _ i 0; pose t := `|tau 0 i|.
have -> : tau 0 i ^+ 2 = t ^+ 2 by rewrite /t real_normK ?num_real.
apply: (le_trans (slope c (normr_ge0 _))).
have more (f : R -> R) : (forall t, 0 <= t < 1 -> f t <= f (- t)) -> f t <= f (tau 0 i).
  move=> negative; rewrite /t; case: (lerP 0 (tau 0 i)) => [/ger0_norm -> // | below].
  rewrite ltr0_norm // -[X in _ <= f X]opprK; apply: negative.
  by rewrite oppr_ge0 ltW //= ltr_oppl normalisable.
by apply: ler_add; [exact: more | apply: ler_wpmul2l; [exact: sqr_ge0 | exact: more]].
Qed.

End Lower.

End Radius.

(* T4, attained: D = t / |W w| u w^T with w orthogonal to b, u along W w: A = t u u^T, c = 0. *)
Theorem gap_attained (R : rcfType) (term weight : R -> R) d m (W : 'M[R]_(d.+1, m)) (b w : 'cV[R]_m) t :
  term 0 = 0 -> inner w b = 0 -> W *m w != 0 -> 0 <= t ->
  exists (D : 'M[R]_(d.+1, m)) (O : 'M[R]_d.+1) (tau : 'rV[R]_d.+1),
  [/\ O^T *m O = 1%:M, D *m W^T = W *m D^T, D *m W^T = O *m diag_mx tau *m O^T, forall i, 0 <= tau 0 i
    & frobenius2 (D *m W^T) + sqnorm (D *m b) = t ^+ 2 /\ divergence term weight O tau (D *m b) = term t].
Proof.
move=> term_0 orth nonzero t0; pose r := norm (W *m w); have r0 : r != 0 by rewrite norm_eq0.
pose u := r^-1 *: (W *m w).
have unit_u : sqnorm u = 1 by rewrite sqnorm_scale -norm_sqr -/r exprVn mulVf // expf_neq0.
have [O [orthogonal first]] := orthogonal_with_column unit_u.
pose D := (t / r) *: (u *m w^T); pose tau : 'rV[R]_d.+1 := t *: delta_mx 0 0.
have along_u : W *m w = r *: u by rewrite scalerA mulfV ?scale1r.
clearbody u.
have DW : D *m W^T = t *: (u *m u^T).
  by rewrite /D -scalemxAl -mulmxA -trmx_mul along_u linearZ /= -scalemxAr scalerA mulfVK.
have Db : D *m b = 0 by rewrite /D -scalemxAl -mulmxA innerE orth raddf0 mulmx0 scaler0.
have diagonal : D *m W^T = O *m diag_mx tau *m O^T by rewrite DW -first rank_one_diagonal.
exists D, O, tau; split=> //.
- have -> : W *m D^T = (D *m W^T)^T by rewrite trmx_mul trmxK.
  by rewrite DW linearZ /= trmx_mul trmxK.
- by move=> i; rewrite !mxE mulr_ge0 ?ler0n.
split.
  by rewrite DW Db frobenius2_scale frobenius2_outer unit_u !mulr1 /sqnorm big1 ?addr0 // => i _; rewrite mxE expr0n.
rewrite /divergence (bigD1 0) //= big1 ?addr0 => [|i i0]; first last.
  by rewrite Db mulmx0 !mxE (negPf i0) mulr0 term_0 expr0n mul0r addr0.
by rewrite Db mulmx0 !mxE !eqxx mulr1 expr0n mul0r addr0.
Qed.
