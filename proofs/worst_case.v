(* Theorem T2: the largest divergence over the admissible perturbations of a Frobenius ball is a maximum over one vector.

   With D = delta / m, A = D W^T = O diag(tau) O^T and c = D b, each divergence is a sum over eigenvalues,
   term(tau_i) + (O^T c)_i^2 weight(tau_i). What is asked of term and weight is proved for the divergences of the paper
   in scalar.v, and gaussian_gap.v puts both together. *)
From mathcomp Require Import all_ssreflect all_algebra ring.
From Flatness Require Import quadratic_rise spectral.
Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Import GRing.Theory Num.Theory Order.Theory.
Local Open Scope ring_scope.

Definition norm (R : rcfType) n (v : 'cV[R]_n) : R := Num.sqrt (sqnorm v).
Definition inner (R : ringType) n (v w : 'cV[R]_n) : R := \sum_i v i 0 * w i 0.

(* sum over eigenvalues tau_i, in the basis of the columns of O. *)
Definition divergence (R : ringType) d (term weight : R -> R) (O : 'M[R]_d) (tau : 'rV[R]_d) (c : 'cV[R]_d) : R :=
  \sum_i (term (tau 0 i) + (O^T *m c) i 0 ^+ 2 * weight (tau 0 i)).

Section Norm.
Variable R : rcfType.

Lemma norm_ge0 n (v : 'cV[R]_n) : 0 <= norm v.
Proof. exact: sqrtr_ge0. Qed.

Lemma norm_sqr n (v : 'cV[R]_n) : norm v ^+ 2 = sqnorm v.
Proof. by rewrite sqr_sqrtr // sqnorm_ge0. Qed.

Lemma norm_scale n a (v : 'cV[R]_n) : norm (a *: v) = `|a| * norm v.
Proof. by rewrite /norm sqnorm_scale sqrtrM ?sqr_ge0 // sqrtr_sqr. Qed.

Lemma norm_eq0 n (v : 'cV[R]_n) : (norm v == 0) = (v == 0).
Proof. by rewrite -sqnorm_eq0 -norm_sqr sqrf_eq0. Qed.

Lemma inner_scale n a (v w : 'cV[R]_n) : inner (a *: v) w = a * inner v w.
Proof. by rewrite mulr_sumr; apply: eq_bigr => i _; rewrite mxE mulrA. Qed.

Lemma innerE n (v w : 'cV[R]_n) : v^T *m w = (inner v w)%:M.
Proof.
apply/matrixP => i j; rewrite !ord1 !mxE eqxx mulr1n.
by apply: eq_bigr => k _; rewrite mxE.
Qed.

Lemma rank_one_diagonal n (O : 'M[R]_n.+1) a :
  a *: (col 0 O *m (col 0 O)^T) = O *m diag_mx (a *: delta_mx 0 0) *m O^T.
Proof.
rewrite colE trmx_mul trmx_delta mulmxA -[O *m _ *m _]mulmxA mul_delta_mx.
rewrite scalemxAl scalemxAr; congr (_ *m _ *m _).
apply/matrixP => i j; rewrite !mxE !eqxx /=.
by case: (i =P 0) => [->|ne]; case: (j =P 0) => [->|ne'] /=; rewrite ?eqxx ?mulr1 ?mulr0 ?mul0rn //;
  case: eqP => // ?; subst.
Qed.

End Norm.

Section Eigenvectors.
Variables (R : rcfType) (d m : nat) (W D : 'M[R]_(d, m)) (b : 'cV[R]_m) (O : 'M[R]_d) (tau : 'rV[R]_d).
Hypothesis orthogonal : O^T *m O = 1%:M.
Hypothesis admissible : D *m W^T = W *m D^T.
Hypothesis diagonal : D *m W^T = O *m diag_mx tau *m O^T.

(* w_i = D^T u_i, u_i the i-th eigenvector. *)
Definition pulled i : 'cV[R]_m := col i (D^T *m O).

Lemma pulled_image i : W *m pulled i = tau 0 i *: col i O.
Proof.
rewrite /pulled colE !mulmxA -admissible diagonal -[_ *m O^T *m O]mulmxA orthogonal mulmx1.
by apply/colP => k; rewrite -colE mul_mx_diag !mxE mulrC.
Qed.

Lemma unit_column i : sqnorm (col i O) = 1.
Proof. by rewrite colE -(sqnorm_turned _ orthogonal) mulmxA orthogonal mul1mx sqnorm_delta. Qed.

Lemma pulled_norm i : norm (W *m pulled i) = `|tau 0 i|.
Proof. by rewrite pulled_image norm_scale /norm unit_column sqrtr1 mulr1. Qed.

Lemma pulled_mean i : (O^T *m (D *m b)) i 0 = inner (pulled i) b.
Proof.
rewrite mulmxA mxE; apply: eq_bigr => k _; congr (_ * _).
by rewrite /pulled -[O^T *m D]trmxK trmx_mul trmxK !mxE.
Qed.

(* sum_i |w_i|^2 = |D|^2: what there is to spend. *)
Lemma pulled_energy : \sum_i sqnorm (pulled i) = frobenius2 D.
Proof.
transitivity (frobenius2 (D^T *m O)^T).
  rewrite frobenius2_rows; apply: eq_bigr => i _; congr sqnorm.
  by apply/colP => k; rewrite !mxE.
rewrite !frobenius2_trace trmxK trmx_mul trmxK mxtrace_mulC -mulmxA [O *m _]mulmxA (mulmx1C orthogonal) mul1mx.
by rewrite mxtrace_mulC.
Qed.

End Eigenvectors.

Section WorstCase.
Variables (R : rcfType) (term weight : R -> R).
(* What the divergences have in common, for t in [0, 1). *)
Hypothesis term_0 : term 0 = 0.
Hypothesis term_ge0 : forall t, 0 <= t < 1 -> 0 <= term (- t).
Hypothesis weight_ge0 : forall t, 0 <= t < 1 -> 0 <= weight (- t).
Hypothesis negative_term : forall t, 0 <= t < 1 -> term t <= term (- t).
Hypothesis negative_weight : forall t, 0 <= t < 1 -> weight t <= weight (- t).
Hypothesis ray_term : forall s t, 0 <= s <= 1 -> 0 <= t < 1 -> term (- (s * t)) <= s ^+ 2 * term (- t).
Hypothesis ray_weight : forall s t, 0 <= s <= 1 -> 0 <= t < 1 -> weight (- (s * t)) <= weight (- t).

Variables (d m : nat) (W : 'M[R]_(d.+1, m.+1)) (b : 'cV[R]_m.+1) (eta : R).
Hypothesis eta_ge0 : 0 <= eta.
(* rho < 1. *)
Hypothesis inside : forall v, sqnorm v = 1 -> eta * norm (W *m v) < 1.

(* What one unit vector v is worth. *)
Definition along v : R :=
  term (- (eta * norm (W *m v))) + (eta * inner v b) ^+ 2 * weight (- (eta * norm (W *m v))).

Lemma along_ge0 v : sqnorm v = 1 -> 0 <= along v.
Proof.
move=> unit_v; have range : 0 <= eta * norm (W *m v) < 1 by rewrite mulr_ge0 ?norm_ge0 //= inside.
by rewrite addr_ge0 ?term_ge0 // mulr_ge0 ?sqr_ge0 ?weight_ge0.
Qed.

Section Upper.
Variables (D : 'M[R]_(d.+1, m.+1)) (O : 'M[R]_d.+1) (tau : 'rV[R]_d.+1) (most : R).
Hypothesis orthogonal : O^T *m O = 1%:M.
Hypothesis admissible : D *m W^T = W *m D^T.
Hypothesis diagonal : D *m W^T = O *m diag_mx tau *m O^T.
Hypothesis ball : frobenius2 D <= eta ^+ 2.
Hypothesis above : forall v, sqnorm v = 1 -> along v <= most.

Let w := pulled D O.
Let image := pulled_norm orthogonal admissible diagonal.

Lemma most_ge0 : 0 <= most.
Proof. exact: le_trans (along_ge0 (sqnorm_delta _ ord0)) (above (sqnorm_delta _ ord0)). Qed.

Lemma pulled_in_ball i : sqnorm (w i) <= eta ^+ 2.
Proof.
apply: le_trans ball; rewrite -(pulled_energy D orthogonal) (bigD1 i) //= ler_addl.
by apply: sumr_ge0 => j _; apply: sqnorm_ge0.
Qed.

(* |tau_i| is at most rho, so that the perturbed density can be normalised. *)
Lemma eigenvalue_inside i : `|tau 0 i| < 1.
Proof.
rewrite -image -/w; have [w0|w0] := eqVneq (w i) 0.
  by rewrite w0 mulmx0 (_ : norm 0 = 0) ?ltr01 //; apply/eqP; rewrite norm_eq0.
pose r := norm (w i); have r0 : 0 < r by rewrite lt_def norm_ge0 norm_eq0 w0.
have unit_v : sqnorm (r^-1 *: w i) = 1.
  by rewrite sqnorm_scale -norm_sqr -/r exprVn mulVf // expf_neq0 // gt_eqF.
apply: le_lt_trans (inside unit_v); rewrite -scalemxAr norm_scale gtr0_norm ?invr_gt0 // mulrA ler_pemull ?norm_ge0 //.
by rewrite ler_pdivl_mulr // mul1r -ler_sqr ?nnegrE ?norm_ge0 // norm_sqr pulled_in_ball.
Qed.

(* Each eigenvalue costs at most the share of its w_i in the ball. *)
Lemma one_eigenvalue i :
  term (tau 0 i) + (O^T *m (D *m b)) i 0 ^+ 2 * weight (tau 0 i) <= sqnorm (w i) / eta ^+ 2 * most.
Proof.
rewrite pulled_mean -/w; have [w0|w0] := eqVneq (w i) 0.
  have tau0 : tau 0 i = 0.
    by apply/eqP; rewrite -normr_eq0 -image -/w w0 mulmx0 norm_eq0.
  have -> : inner (w i) b = 0 by rewrite w0 /inner big1 // => k _; rewrite mxE mul0r.
  have -> : sqnorm (w i) = 0 by apply/eqP; rewrite sqnorm_eq0 w0.
  by rewrite tau0 term_0 expr0n !mul0r addr0.
pose r := norm (w i); pose v := r^-1 *: w i; pose s := r / eta; pose t := eta * norm (W *m v).
have r0 : 0 < r by rewrite lt_def norm_ge0 norm_eq0 w0.
have r_eta : r <= eta by rewrite -ler_sqr ?nnegrE ?norm_ge0 // norm_sqr pulled_in_ball.
have eta0 : 0 < eta by apply: lt_le_trans r_eta.
have unit_v : sqnorm v = 1.
  by rewrite /v sqnorm_scale -norm_sqr -/r exprVn mulVf // expf_neq0 // gt_eqF.
have w_v : w i = r *: v by rewrite /v scalerA mulfV ?scale1r // gt_eqF.
have s_range : 0 <= s <= 1 by apply/andP; split; [exact: divr_ge0 (ltW r0) (ltW eta0) | rewrite ler_pdivr_mulr // mul1r].
have t_range : 0 <= t < 1 by rewrite /t mulr_ge0 ?norm_ge0 //= inside.
have s_eta : s * eta = r by rewrite mulfVK // gt_eqF.
have tau_st : `|tau 0 i| = s * t.
  by rewrite -image -/w w_v -scalemxAr norm_scale gtr0_norm // /t mulrA s_eta.
have st_range : 0 <= s * t < 1.
  have /andP[s0 s1] := s_range; have /andP[t0 t1] := t_range.
  by rewrite mulr_ge0 //=; apply: le_lt_trans t1; rewrite -[X in _ <= X]mul1r ler_wpmul2r.
have inner_s : inner (w i) b = s * (eta * inner v b) by rewrite w_v inner_scale mulrA s_eta.
have negative (f : R -> R) : (forall t, 0 <= t < 1 -> f t <= f (- t)) -> f (tau 0 i) <= f (- (s * t)).
  move=> more; case: (lerP 0 (tau 0 i)) => sign.
    by rewrite -tau_st ger0_norm // more // -[tau 0 i]ger0_norm // tau_st.
  by rewrite -tau_st ltr0_norm // opprK.
apply: (@le_trans _ _ (term (- (s * t)) + (s * (eta * inner v b)) ^+ 2 * weight (- (s * t)))).
  by rewrite inner_s; apply: ler_add; [exact: negative | apply: ler_wpmul2l; [exact: sqr_ge0 | exact: negative]].
have -> : sqnorm (w i) / eta ^+ 2 = s ^+ 2 by rewrite -norm_sqr expr_div_n.
apply: (@le_trans _ _ (s ^+ 2 * along v)); last by rewrite ler_wpmul2l ?sqr_ge0 // above.
rewrite /along mulrDr (mulrA (s ^+ 2)) -exprMn -/t; apply: ler_add; first exact: ray_term.
by apply: ler_wpmul2l; [exact: sqr_ge0 | exact: ray_weight].
Qed.

(* T2, no admissible perturbation of the ball exceeds what the best unit vector is worth. *)
Theorem worst_case_bound : divergence term weight O tau (D *m b) <= most.
Proof.
apply: (@le_trans _ _ (\sum_i sqnorm (w i) / eta ^+ 2 * most)).
  by apply: ler_sum => i _; apply: one_eigenvalue.
rewrite -mulr_suml -mulr_suml pulled_energy // -[X in _ <= X]mul1r ler_wpmul2r ?most_ge0 //.
have [->|eta0] := eqVneq eta 0; first by rewrite expr0n invr0 mulr0 ler01.
by rewrite ler_pdivr_mulr ?mul1r // lt_def sqrf_eq0 eta0 sqr_ge0.
Qed.

End Upper.

(* T2, attained: D = -eta u v^T with u along W v. *)
Theorem worst_case_attained v : sqnorm v = 1 -> exists (D : 'M[R]_(d.+1, m.+1)) (O : 'M[R]_d.+1) (tau : 'rV[R]_d.+1),
  [/\ O^T *m O = 1%:M, D *m W^T = W *m D^T, D *m W^T = O *m diag_mx tau *m O^T, frobenius2 D = eta ^+ 2
    & divergence term weight O tau (D *m b) = along v].
Proof.
move=> unit_v; pose t := norm (W *m v).
have [u [unit_u along_u]] : exists u, sqnorm u = 1 /\ W *m v = t *: u.
  have [zero|nonzero] := eqVneq (W *m v) 0.
    exists (delta_mx 0 0); split; first exact: sqnorm_delta.
    by rewrite /t zero (_ : norm 0 = 0) ?scale0r //; apply/eqP; rewrite norm_eq0.
  have t0 : t != 0 by rewrite norm_eq0.
  exists (t^-1 *: (W *m v)); split; last by rewrite scalerA mulfV ?scale1r.
  by rewrite sqnorm_scale -norm_sqr -/t exprVn mulVf // expf_neq0.
have [O [orthogonal first]] := orthogonal_with_column unit_u.
pose D := - eta *: (u *m v^T); pose tau : 'rV[R]_d.+1 := (- (eta * t)) *: delta_mx 0 0.
have DW : D *m W^T = - (eta * t) *: (u *m u^T).
  rewrite /D -scalemxAl -mulmxA -trmx_mul along_u linearZ /= -scalemxAr scalerA mulNr.
  by [].
have Db : D *m b = - (eta * inner v b) *: u.
  by rewrite /D -scalemxAl -mulmxA innerE mul_mx_scalar scalerA mulNr.
have O_u : O^T *m u = delta_mx 0 0 by rewrite -first colE mulmxA orthogonal mul1mx.
exists D, O, tau; split=> //.
- by rewrite -[W *m D^T]trmxK trmx_mul trmxK DW linearZ /= trmx_mul trmxK.
- by rewrite DW -first rank_one_diagonal.
- by rewrite /D frobenius2_scale frobenius2_outer unit_u unit_v !mulr1 sqrrN.
rewrite /divergence (bigD1 0) //= big1 ?addr0 => [|i i0].
  rewrite Db -scalemxAr O_u !mxE !eqxx !mulr1 sqrrN.
  by [].
rewrite Db -scalemxAr O_u !mxE (negPf i0) !mulr0 /= term_0 add0r expr0n mul0r.
by [].
Qed.

End WorstCase.
