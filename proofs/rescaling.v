(* Theorem T7: the same function, another flatness; and the measures that stay.

   Of a positively homogeneous activation, sigma(a z) = a sigma(z) for a > 0: theta / a with a W and a b is the same
   function, and so is each neuron rescaled by a factor of its own. The rise of the loss moves with the factor. Noise
   relative to the norm of theta follows one common factor, noise relative to the norm of each column all of them. *)
From mathcomp Require Import all_ssreflect all_algebra ring.
From Flatness Require Import expectation quadratic_rise.
Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Import GRing.Theory Num.Theory Order.Theory.
Local Open Scope ring_scope.

Section Rescaling.
Variables (R : realFieldType) (d m : nat).
Implicit Types (theta delta : 'M[R]_(d, m)) (G : 'M[R]_m) (W : 'M[R]_(d, m)) (b : 'cV[R]_m) (x : 'cV[R]_d).

(* phi = sigma(W^T x + b), and the score theta phi / m. *)
Definition features (sigma : R -> R) W b x : 'cV[R]_m := map_mx sigma (W^T *m x + b).
Definition score (sigma : R -> R) theta W b x : 'cV[R]_d := m%:R^-1 *: (theta *m features sigma W b x).

Definition homogeneous (sigma : R -> R) : Prop := forall a z, 0 < a -> sigma (a * z) = a * sigma z.

Lemma relu_homogeneous : homogeneous (fun z => Num.max z 0).
Proof. by move=> a z /ltW a0; rewrite maxr_pmulr // mulr0. Qed.

Lemma leaky_relu_homogeneous slope : homogeneous (fun z => Num.max z 0 + slope * Num.min z 0).
Proof. by move=> a z /ltW a0; rewrite mulrDr maxr_pmulr // mulrCA [a * Num.min _ _]minr_pmulr // mulr0. Qed.

(* Factors of the neurons on the diagonal of `diag_mx a`: columns a_j w_j, entries a_j b_j and a_j phi_j. *)
Lemma features_rescaled sigma W b (a : 'rV[R]_m) x : homogeneous sigma -> (forall j, 0 < a 0 j) ->
  features sigma (W *m diag_mx a) (diag_mx a *m b) x = diag_mx a *m features sigma W b x.
Proof.
move=> homog a0; rewrite /features trmx_mul tr_diag_mx -mulmxA -mulmxDr.
by apply/colP => j; rewrite !mul_diag_mx !mxE homog.
Qed.

(* The function is the same, neuron by neuron. *)
Theorem same_score sigma theta W b (a : 'rV[R]_m) x : homogeneous sigma -> (forall j, 0 < a 0 j) ->
  score sigma (theta *m diag_mx (\row_j (a 0 j)^-1)) (W *m diag_mx a) (diag_mx a *m b) x = score sigma theta W b x.
Proof.
move=> homog a0; rewrite /score features_rescaled // mulmxA -[theta *m _ *m _]mulmxA mulmx_diag.
rewrite (_ : diag_mx _ = 1%:M) ?mulmx1 //.
apply/matrixP => i j; rewrite !mxE; case: eqP => // _.
by rewrite mulVf // gt_eqF.
Qed.

(* One factor for all. *)
Corollary same_score_uniform sigma theta W b a x : homogeneous sigma -> 0 < a ->
  score sigma (a^-1 *: theta) (a *: W) (a *: b) x = score sigma theta W b x.
Proof.
move=> homog a0; rewrite -[RHS](@same_score sigma theta W b (const_mx a) x) // => [|j]; last by rewrite mxE.
rewrite diag_const_mx mul_mx_scalar mul_scalar_mx.
by rewrite (_ : \row_j _ = const_mx a^-1) ?diag_const_mx ?mul_mx_scalar //; apply/rowP => j; rewrite !mxE.
Qed.

(* What E[phi phi^T] becomes. *)
Lemma second_moment_rescaled T (E : expectation R T) (phi : T -> 'cV[R]_m) (a : 'rV[R]_m) :
  (forall j k, integrable E (fun t => phi t j 0 * phi t k 0)) ->
  second_moment E (fun t => diag_mx a *m phi t) = diag_mx a *m second_moment E phi *m diag_mx a.
Proof.
move=> int; apply/matrixP => j k; rewrite mul_mx_diag mxE mul_diag_mx !mxE mulrAC -mean_scale //.
by apply: mean_ext => x; rewrite !mul_diag_mx !mxE mulrACA.
Qed.

(* The rise after is the rise before of a delta that is larger by the factor: so a^2 times the rise of the same. *)
Lemma J_rescaled G delta (a : 'rV[R]_m) : J (diag_mx a *m G *m diag_mx a) delta = J G (delta *m diag_mx a).
Proof. by rewrite /J trmx_mul tr_diag_mx !mulmxA. Qed.

Theorem rise_rescaled G delta a : J (a ^+ 2 *: G) delta = a ^+ 2 * J G delta.
Proof. by rewrite /J -scalemxAr -scalemxAl linearZ /= mulrA. Qed.

Theorem largest_rescaled G top a : largest G top -> largest (a ^+ 2 *: G) (a ^+ 2 * top).
Proof.
have scale v : quadratic (a ^+ 2 *: G) v = a ^+ 2 * quadratic G v.
  rewrite mulr_sumr; apply: eq_bigr => j _; rewrite mulr_sumr; apply: eq_bigr => k _.
  by rewrite mxE mulrCA.
case=> most [v [unit_v at_v]]; split; last by exists v; rewrite scale at_v.
by move=> w; rewrite scale -(mulrA (a ^+ 2)) ler_wpmul2l ?sqr_ge0.
Qed.

(* `flat G r kappa`: the rise is at most kappa within |delta| <= r. The kappa-flat radius falls by a. *)
Definition flat G (radius kappa : R) : Prop :=
  forall delta, frobenius2 delta <= radius ^+ 2 -> J G delta <= kappa.

Theorem flat_radius_rescaled G radius kappa a : a != 0 ->
  flat (a ^+ 2 *: G) (radius / a) kappa <-> flat G radius kappa.
Proof.
move=> a0; have a2 : 0 < a ^+ 2 by rewrite lt_def sqrf_eq0 a0 sqr_ge0.
split=> is_flat delta small.
  have := is_flat (a^-1 *: delta); rewrite rise_rescaled J_scale mulrA -exprMn mulfV // expr1n mul1r; apply.
  by rewrite frobenius2_scale exprMn mulrC ler_wpmul2l ?sqr_ge0.
rewrite rise_rescaled -J_scale; apply: is_flat.
rewrite frobenius2_scale -(ler_pmul2l (_ : 0 < a^-1 ^+ 2)) ?exprVn ?invr_gt0 //.
by rewrite mulrA mulVf ?gt_eqF // mul1r -exprVn -exprMn mulrC.
Qed.

(* The rise under noise of standard deviation s in every entry: a^2 times as large (T3 (ii) gives the formula). *)
Definition noise_rise G (s : R) : R := s ^+ 2 * d%:R * \tr G / m%:R ^+ 2.

Theorem noise_rise_rescaled G s a : noise_rise (a ^+ 2 *: G) s = a ^+ 2 * noise_rise G s.
Proof. rewrite /noise_rise linearZ /=; ring. Qed.

(* Relative to |theta|, s^2 |theta|^2 / (d m) in every entry, it stays; likewise |theta|^2 times the Hessian's trace. *)
Definition relative_noise_rise G theta (s : R) : R :=
  s ^+ 2 * frobenius2 theta / (d * m)%:R * d%:R * \tr G / m%:R ^+ 2.

Theorem relative_noise_rise_stays G theta s a : a != 0 ->
  relative_noise_rise (a ^+ 2 *: G) (a^-1 *: theta) s = relative_noise_rise G theta s.
Proof.
have regroup (e f k h t i c : R) : e * (c^-1 * f) * k * h * (c * t) * i = c^-1 * c * (e * f * k * h * t * i) by ring.
move=> a0; rewrite /relative_noise_rise linearZ frobenius2_scale exprVn /= regroup.
by rewrite mulVf ?mul1r // expf_neq0.
Qed.

Theorem trace_product_stays G theta a : a != 0 ->
  frobenius2 (a^-1 *: theta) * (2%:R * d%:R * \tr (a ^+ 2 *: G) / m%:R ^+ 2) =
  frobenius2 theta * (2%:R * d%:R * \tr G / m%:R ^+ 2).
Proof.
have regroup (c f h t i : R) : c^-1 * f * (2%:R * h * (c * t) * i) = c^-1 * c * (f * (2%:R * h * t * i)) by ring.
move=> a0; rewrite linearZ frobenius2_scale exprVn /= regroup.
by rewrite mulVf ?mul1r // expf_neq0.
Qed.

(* Relative to each column of theta, s^2 |theta_j|^2 / d in the entries of column j, it stays for every choice of
   factors, one a neuron. *)
Definition column_noise_rise G theta (s : R) : R :=
  (\sum_(i < d) \sum_j (s ^+ 2 * sqnorm (col j theta) / d%:R) * G j j) / m%:R ^+ 2.

Theorem column_noise_rise_stays G theta (a : 'rV[R]_m) s : (forall j, a 0 j != 0) ->
  column_noise_rise (diag_mx a *m G *m diag_mx a) (theta *m diag_mx (\row_j (a 0 j)^-1)) s =
  column_noise_rise G theta s.
Proof.
have regroup (e c f k h : R) : e * (c^-1 ^+ 2 * f) * k * (c * h * c) = (c^-1 * c) ^+ 2 * (e * f * k * h) by ring.
move=> a0; congr (_ / _); apply: eq_bigr => i _; apply: eq_bigr => j _.
rewrite mul_mx_diag mxE mul_diag_mx mxE (_ : sqnorm _ = (a 0 j)^-1 ^+ 2 * sqnorm (col j theta)).
  by rewrite regroup mulVf ?expr1n ?mul1r.
rewrite mulr_sumr; apply: eq_bigr => k _; rewrite mxE mul_mx_diag !mxE exprMn mulrC //.
Qed.

(* Weights w that a normalisation makes scale-invariant: any second difference of the loss at a w is the one at w, of a
   step smaller by a. Over the step squared it is a^2 times smaller. *)
Theorem scale_invariant_curvature (V : lmodType R) (f : V -> R) (w step : V) a : a != 0 ->
  (forall v, f (a *: v) = f v) ->
  f (a *: w + step) + f (a *: w - step) - 2%:R * f (a *: w) =
  f (w + a^-1 *: step) + f (w - a^-1 *: step) - 2%:R * f w.
Proof.
move=> a0 invariant; rewrite invariant -[f (w + _)]invariant -[f (w - _)]invariant.
by rewrite scalerDr scalerBr !scalerA mulfV // scale1r.
Qed.

End Rescaling.
