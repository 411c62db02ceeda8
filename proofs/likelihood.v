(* Theorem T8 (a), (c): what an error of the noise prediction costs in likelihood, step by step of the sampler.

   Two chains with Gaussian steps of the same variance sigma_t^2 I, whose means differ. The constants of the two log
   densities cancel, so that the log of their ratio is a difference of squares; its expectation under the first chain is
   the Kullback-Leibler divergence, by definition. *)
From mathcomp Require Import all_ssreflect all_algebra ring.
From Flatness Require Import expectation quadratic_rise.
Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Import GRing.Theory Num.Theory Order.Theory.
Local Open Scope ring_scope.

(* log N(y; mu, s2 I) - log N(y; mu', s2 I). *)
Definition log_ratio (R : fieldType) d (s2 : R) (mu mu' y : 'cV[R]_d) : R :=
  (sqnorm (y - mu') - sqnorm (y - mu)) / (2%:R * s2).

Section Step.
Variables (R : realFieldType) (d : nat).
Implicit Types (mu y x e : 'cV[R]_d).

Lemma log_ratioE (s2 : R) mu mu' y : log_ratio s2 mu mu' y =
  sqnorm (mu - mu') / (2%:R * s2) + s2^-1 * (\sum_i (y i 0 - mu i 0) * (mu i 0 - mu' i 0)).
Proof.
have -> : s2^-1 * (\sum_i (y i 0 - mu i 0) * (mu i 0 - mu' i 0)) =
    (\sum_i 2%:R * ((y i 0 - mu i 0) * (mu i 0 - mu' i 0))) / (2%:R * s2).
  have half (a b : R) : a^-1 * b = 2%:R * b * (2%:R^-1 * a^-1).
    by rewrite mulrACA mulfV ?mul1r 1?mulrC // pnatr_eq0.
  by rewrite -mulr_sumr invfM half.
have expand (a b c : R) : (a - c) ^+ 2 - (a - b) ^+ 2 = (b - c) ^+ 2 + 2%:R * ((a - b) * (b - c)) by ring.
rewrite -mulrDl; congr (_ / _); rewrite -sumrB -big_split; apply: eq_bigr => i _ /=.
by rewrite !mxE; exact: expand.
Qed.

(* The Kullback-Leibler divergence of two Gaussians of equal variance; Y may have any law of mean mu. *)
Theorem gaussian_kl Omega (E : expectation R Omega) (Y : Omega -> 'cV[R]_d) s2 mu mu' :
  (forall i, integrable E (fun w => Y w i 0)) -> (forall i, mean E (fun w => Y w i 0) = mu i 0) ->
  mean E (fun w => log_ratio s2 mu mu' (Y w)) = sqnorm (mu - mu') / (2%:R * s2).
Proof.
move=> int mean_Y.
pose term i w := (mu i 0 - mu' i 0) * (Y w i 0 + - mu i 0).
have int_term i : integrable E (term i).
  by apply: integrable_scale; apply: integrable_add => //; apply: integrable_cst.
rewrite (@mean_ext _ _ E _ (fun w => sqnorm (mu - mu') / (2%:R * s2) + s2^-1 * \sum_i term i w)); last first.
  move=> w; rewrite log_ratioE; congr (_ + _ * _).
  by apply: eq_bigr => i _; rewrite mulrC.
rewrite mean_add; [|exact: integrable_cst|by apply/integrable_scale/integrable_sum].
rewrite mean_cst mean_scale; last exact: integrable_sum.
rewrite mean_sum // big1 ?mulr0 ?addr0 // => i _.
rewrite mean_scale; last by apply: integrable_add => //; apply: integrable_cst.
by rewrite mean_add ?mean_cst ?mean_Y ?subrr ?mulr0 //; apply: integrable_cst.
Qed.

(* DDPM's mean, (x - beta / sqrt(1 - alpha_bar) eps) / sqrt(alpha). *)
Definition step_mean (beta root_alpha root_rest : R) x e : 'cV[R]_d :=
  root_alpha^-1 *: (x - (beta / root_rest) *: e).

(* beta^2 / (2 sigma^2 alpha (1 - alpha_bar)). *)
Definition likelihood_weight (beta s2 alpha rest : R) : R := beta ^+ 2 / (2%:R * s2 * alpha * rest).

Theorem step_identity (beta s2 alpha rest root_alpha root_rest : R) x e e' :
  root_alpha ^+ 2 = alpha -> root_rest ^+ 2 = rest ->
  sqnorm (step_mean beta root_alpha root_rest x e - step_mean beta root_alpha root_rest x e') / (2%:R * s2) =
  likelihood_weight beta s2 alpha rest * sqnorm (e - e').
Proof.
move=> <- <-; rewrite /sqnorm mulr_suml mulr_sumr; apply: eq_bigr => i _.
have expand (a b c x0 y z : R) :
  (a * (x0 - b * c * y) - a * (x0 - b * c * z)) ^+ 2 = b ^+ 2 * (a ^+ 2 * c ^+ 2) * (y - z) ^+ 2 by ring.
have regroup (a b c e0 h f : R) : a * (b^-1 ^+ 2 * c^-1 ^+ 2) * e0 * (h * f)^-1 = a * (h * f * b ^+ 2 * c ^+ 2)^-1 * e0.
  have swap (u v w : R) : a * (v * w) * e0 * u = a * (u * v * w) * e0 by ring.
  by rewrite (invfM (h * f * b ^+ 2)) (invfM (h * f)) !exprVn swap.
by rewrite !mxE expand regroup.
Qed.

End Step.

(* A path of T steps: `before t` is x_t and `after t` x_(t-1), which has mean step_mean at x_t, given x_t. *)
Section Path.
Variables (R : realFieldType) (d T : nat) (Omega : Type) (E : expectation R Omega).
Variables (before after : 'I_T -> Omega -> 'cV[R]_d) (eps eps' : 'I_T -> 'cV[R]_d -> 'cV[R]_d).
Variables (beta s2 alpha rest root_alpha root_rest : 'I_T -> R).
Hypothesis alpha_root : forall t, root_alpha t ^+ 2 = alpha t.
Hypothesis rest_root : forall t, root_rest t ^+ 2 = rest t.

Definition mean_of (e : 'I_T -> 'cV[R]_d -> 'cV[R]_d) t x :=
  step_mean (beta t) (root_alpha t) (root_rest t) x (e t x).
Definition gap_at t w i : R := mean_of eps t (before t w) i 0 - mean_of eps' t (before t w) i 0.

(* Given x_t, x_(t-1) has mean mean_of eps: its error is orthogonal to every function of x_t, so to the gap. *)
Hypothesis orthogonal_integrable : forall t i,
  integrable E (fun w => (after t w i 0 - mean_of eps t (before t w) i 0) * gap_at t w i).
Hypothesis orthogonal : forall t i,
  mean E (fun w => (after t w i 0 - mean_of eps t (before t w) i 0) * gap_at t w i) = 0.
Hypothesis gap_integrable : forall t,
  integrable E (fun w => sqnorm (eps t (before t w) - eps' t (before t w))).

(* T8 (a): by the chain rule the log ratio of two paths is the sum over steps; its expectation is a weighted sum of the
   squared gaps between the two predictions, under the first chain, for any two networks. *)
Theorem path_kl :
  mean E (fun w => \sum_t log_ratio (s2 t) (mean_of eps t (before t w)) (mean_of eps' t (before t w)) (after t w)) =
  \sum_t likelihood_weight (beta t) (s2 t) (alpha t) (rest t) *
    mean E (fun w => sqnorm (eps t (before t w) - eps' t (before t w))).
Proof.
pose main t w := likelihood_weight (beta t) (s2 t) (alpha t) (rest t) *
  sqnorm (eps t (before t w) - eps' t (before t w)).
pose cross t w := (s2 t)^-1 * \sum_i (after t w i 0 - mean_of eps t (before t w) i 0) * gap_at t w i.
have int_main t : integrable E (main t) by apply: integrable_scale.
have int_cross t : integrable E (cross t) by apply/integrable_scale/integrable_sum.
rewrite (@mean_ext _ _ E _ (fun w => \sum_t (main t w + cross t w))); last first.
  move=> w; apply: eq_bigr => t _; rewrite log_ratioE; congr (_ + _).
  exact: step_identity.
rewrite mean_sum => [|t]; last exact: integrable_add.
apply: eq_bigr => t _; rewrite mean_add // mean_scale // [X in _ + X](_ : _ = 0) ?addr0 //.
rewrite /cross mean_scale; last exact: integrable_sum.
by rewrite mean_sum // big1 ?mulr0.
Qed.

End Path.

(* T8 (c): a readout theta phi_t / m at each step, noise of mean 0 on theta, uncorrelated within each row and of
   variance v: the weighted squared error rises by v (d / m^2) sum_t w_t E|phi_t|^2. *)
Section Readout.
Variables (R : realFieldType) (d m T : nat) (X : Type) (E : 'I_T -> expectation R X) (weight : 'I_T -> R).
Variables (phi : 'I_T -> X -> 'cV[R]_m) (g : 'I_T -> X -> 'cV[R]_d).
Hypothesis phi_phi : forall t j k, integrable (E t) (fun x => phi t x j 0 * phi t x k 0).
Hypothesis g_phi : forall t i j, integrable (E t) (fun x => g t x i 0 * phi t x j 0).
Hypothesis g_g : forall t i, integrable (E t) (fun x => g t x i 0 ^+ 2).
Variables (Omega : Type) (N : expectation R Omega) (noise : Omega -> 'M[R]_(d, m)) (v : R).
Hypothesis entries : forall i j, integrable N (fun w => noise w i j).
Hypothesis products : forall i j k, integrable N (fun w => noise w i j * noise w i k).
Hypothesis mean_zero : forall i j, mean N (fun w => noise w i j) = 0.
Hypothesis uncorrelated : forall i j k, mean N (fun w => noise w i j * noise w i k) = if j == k then v else 0.

Theorem likelihood_rise theta :
  mean N (fun w => \sum_t weight t * loss (E t) (phi t) (g t) (theta + noise w)) =
  \sum_t weight t * loss (E t) (phi t) (g t) theta +
  v * d%:R / m%:R ^+ 2 * \sum_t weight t * \tr (second_moment (E t) (phi t)).
Proof.
have int t := noisy_loss_integrable (phi_phi t) (g_phi t) (g_g t) entries products theta.
rewrite mean_sum => [|t]; last by apply: integrable_scale.
rewrite mulr_sumr -big_split; apply: eq_bigr => t _ /=; rewrite mean_scale //.
have -> := rise_under_equal_noise (phi_phi t) (g_phi t) (g_g t) entries products mean_zero
  (variance := fun _ _ => v) uncorrelated theta (fun _ _ => erefl).
rewrite mulrDr; congr (_ + _); ring.
Qed.

End Readout.
