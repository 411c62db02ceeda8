(* What Theorems T2, T4 and T5 need of functions of one real number, and numbers that the refutations rest on.

   The paper's divergence, its reverse and the squared 2-Wasserstein distance have terms of one kind: 0 at 0, and of
   derivative t k(t) on (-1, oo), k positive and decreasing. All that the two theorems ask follows from that. *)
Require Import Reals Lra.
From Coquelicot Require Import Coquelicot.
From Interval Require Import Tactic.
Local Open Scope R_scope.

(* A function whose derivative is nowhere negative does not fall. *)
Lemma does_not_fall (f slope : R -> R) (a b : R) : a <= b ->
  (forall t, a <= t <= b -> is_derive f t (slope t)) -> (forall t, a <= t <= b -> 0 <= slope t) -> f a <= f b.
Proof.
intros ab derivative nonneg.
destruct (MVT_gen f a b slope) as [t [range mean]].
- intros t; rewrite Rmin_left, Rmax_right by lra; intros range; apply derivative; lra.
- intros t; rewrite Rmin_left, Rmax_right by lra; intros range.
  apply continuity_pt_filterlim, (ex_derive_continuous f t); exists (slope t); apply derivative; lra.
- rewrite Rmin_left, Rmax_right in range by lra.
  assert (0 <= slope t * (b - a)) by (apply Rmult_le_pos; [apply nonneg; lra | lra]).
  lra.
Qed.

Record profile := Profile {
  term : R -> R;
  weight : R -> R;
  curve : R -> R;
  term_at_0 : term 0 = 0;
  term_derivative : forall t, -1 < t -> is_derive term t (t * curve t);
  curve_positive : forall t, -1 < t -> 0 <= curve t;
  curve_decreasing : forall s t, -1 < s <= t -> curve t <= curve s;
  weight_positive : forall t, -1 < t -> 0 <= weight t;
  weight_decreasing : forall s t, -1 < s <= t -> weight t <= weight s;
  weight_of_curve : forall t, 0 <= t -> curve t <= 2 * weight t
}.

Section Profile.
Variable P : profile.

Lemma derivative_along (a t : R) : -1 < a * t -> is_derive (fun x => term P (a * x)) t (a * (a * t * curve P (a * t))).
Proof.
intros inside; apply (is_derive_comp (term P) (fun x => a * x)); first last.
- auto_derive; [exact I | ring].
- apply term_derivative; exact inside.
Qed.

Lemma along_difference (a b p q t : R) : -1 < a * t -> -1 < b * t ->
  is_derive (fun x => p * term P (a * x) - q * term P (b * x)) t
    (p * (a * (a * t * curve P (a * t))) - q * (b * (b * t * curve P (b * t)))).
Proof.
intros ina inb.
apply (is_derive_minus (fun x => p * term P (a * x)) (fun x => q * term P (b * x))).
- apply is_derive_scal, derivative_along; exact ina.
- apply is_derive_scal, derivative_along; exact inb.
Qed.

Lemma compare (a b p q t : R) : 0 <= t ->
  (forall x, 0 <= x <= t -> -1 < a * x /\ -1 < b * x) ->
  (forall x, 0 <= x <= t -> q * (b * (b * x * curve P (b * x))) <= p * (a * (a * x * curve P (a * x)))) ->
  q * term P (b * t) <= p * term P (a * t).
Proof.
intros t0 inside slopes.
pose proof (does_not_fall (fun x => p * term P (a * x) - q * term P (b * x))
  (fun x => p * (a * (a * x * curve P (a * x))) - q * (b * (b * x * curve P (b * x)))) 0 t t0) as grows.
cbv beta in grows; rewrite !Rmult_0_r, !term_at_0, !Rmult_0_r in grows.
assert (0 - 0 <= p * term P (a * t) - q * term P (b * t)); [apply grows | lra].
- intros x range; apply along_difference; apply (inside x range).
- intros x range; specialize (slopes x range); lra.
Qed.

Lemma term_negative_ge0 (t : R) : 0 <= t < 1 -> 0 <= term P (- t).
Proof.
intros [t0 t1]; replace 0 with (0 * term P (0 * t)) by ring; replace (- t) with (-1 * t) by ring.
rewrite <- (Rmult_1_l (term P (-1 * t))); apply compare; [exact t0 | intros; lra | intros x [x0 xt]].
assert (0 <= curve P (-1 * x)) by (apply curve_positive; lra).
assert (0 <= x * curve P (-1 * x)) by (apply Rmult_le_pos; lra).
lra.
Qed.

Lemma negative_costs_more (t : R) : 0 <= t < 1 -> term P t <= term P (- t).
Proof.
intros [t0 t1]; rewrite <- (Rmult_1_l (term P t)), <- (Rmult_1_l (term P (- t))).
replace (term P t) with (term P (1 * t)) by (f_equal; ring); replace (- t) with (-1 * t) by ring.
apply compare; [exact t0 | intros; lra | intros x [x0 xt]].
assert (curve P (1 * x) <= curve P (-1 * x)) by (apply curve_decreasing; lra).
assert (x * curve P (1 * x) <= x * curve P (-1 * x)) by (apply Rmult_le_compat_l; lra).
lra.
Qed.

(* Along a ray the term at -t is below the parabola through its end: T2. *)
Lemma ray (s t : R) : 0 <= s <= 1 -> 0 <= t < 1 -> term P (- (s * t)) <= s ^ 2 * term P (- t).
Proof.
intros [s0 s1] [t0 t1]; rewrite <- (Rmult_1_l (term P (- (s * t)))).
replace (- (s * t)) with (- s * t) by ring; replace (- t) with (-1 * t) by ring.
assert (bound : forall x, 0 <= x <= t -> s * x <= x) by (intros x range; nra).
apply compare; [exact t0 | intros x range; specialize (bound x range); lra | intros x range].
specialize (bound x range).
assert (curve P (- s * x) <= curve P (-1 * x)) by (apply curve_decreasing; lra).
assert (0 <= s ^ 2 * x) by (apply Rmult_le_pos; [nra | lra]).
assert (s ^ 2 * x * curve P (- s * x) <= s ^ 2 * x * curve P (-1 * x)) by (apply Rmult_le_compat_l; assumption).
lra.
Qed.

(* The term at sqrt(y) is concave in y: its chord from 0 lies below: T4. *)
Lemma chord (s t : R) : 0 <= s <= 1 -> 0 <= t -> s ^ 2 * term P t <= term P (s * t).
Proof.
intros [s0 s1] t0; rewrite <- (Rmult_1_l (term P (s * t))).
replace (term P t) with (term P (1 * t)) by (f_equal; ring).
assert (bound : forall x, 0 <= x -> 0 <= s * x <= x) by (intros x range; nra).
apply compare; [exact t0 | intros x [x0 _]; specialize (bound x x0); lra | intros x [x0 _]].
specialize (bound x x0).
assert (curve P (1 * x) <= curve P (s * x)) by (apply curve_decreasing; lra).
assert (0 <= s ^ 2 * x) by (apply Rmult_le_pos; [nra | lra]).
assert (s ^ 2 * x * curve P (1 * x) <= s ^ 2 * x * curve P (s * x)) by (apply Rmult_le_compat_l; assumption).
lra.
Qed.

(* The mean's part costs at least what the term would: T4. *)
Lemma mean_part (t c : R) : 0 <= t -> term P (sqrt (t ^ 2 + c ^ 2)) <= term P t + c ^ 2 * weight P t.
Proof.
intros t0; set (T := sqrt (t ^ 2 + c ^ 2)).
assert (square : T ^ 2 = t ^ 2 + c ^ 2) by (apply pow2_sqrt; nra).
assert (T0 : 0 <= T) by apply sqrt_pos.
assert (tT : t <= T) by nra.
pose proof (does_not_fall (fun x => x ^ 2 * weight P t - term P x) (fun x => 2 * x * weight P t - x * curve P x) t T tT)
  as grows; cbv beta in grows.
assert (t ^ 2 * weight P t - term P t <= T ^ 2 * weight P t - term P T).
- apply grows; intros x range.
  + apply (is_derive_minus (fun x => x ^ 2 * weight P t) (term P)).
    * auto_derive; [exact I | ring].
    * apply term_derivative; lra.
  + assert (curve P x <= 2 * weight P t).
    * apply Rle_trans with (curve P t); [apply curve_decreasing; lra | apply weight_of_curve; exact t0].
    * assert (x * curve P x <= x * (2 * weight P t)) by (apply Rmult_le_compat_l; lra); lra.
- rewrite square in H; lra.
Qed.

Lemma term_increasing (s t : R) : 0 <= s <= t -> term P s <= term P t.
Proof.
intros [s0 st]; apply (does_not_fall (term P) (fun x => x * curve P x) s t st); intros x range.
- apply term_derivative; lra.
- apply Rmult_le_pos; [lra | apply curve_positive; lra].
Qed.

Lemma weight_negative_ge0 (t : R) : 0 <= t < 1 -> 0 <= weight P (- t).
Proof. intros range; apply weight_positive; lra. Qed.

Lemma weight_negative_more (t : R) : 0 <= t < 1 -> weight P t <= weight P (- t).
Proof. intros range; apply weight_decreasing; lra. Qed.

Lemma weight_ray (s t : R) : 0 <= s <= 1 -> 0 <= t < 1 -> weight P (- (s * t)) <= weight P (- t).
Proof. intros s_range t_range; apply weight_decreasing; nra. Qed.

End Profile.

(* KL(p || p_hat): tau - log(1 + tau), weight 1 / (1 + tau). *)
Program Definition kl : profile :=
  {| term := fun t => t - ln (1 + t); weight := fun t => / (1 + t); curve := fun t => / (1 + t) |}.
Next Obligation. rewrite Rplus_0_r, ln_1; ring. Qed.
Next Obligation. auto_derive; [lra | field; lra]. Qed.
Next Obligation. left; apply Rinv_0_lt_compat; lra. Qed.
Next Obligation. apply Rinv_le_contravar; lra. Qed.
Next Obligation. left; apply Rinv_0_lt_compat; lra. Qed.
Next Obligation. apply Rinv_le_contravar; lra. Qed.
Next Obligation. assert (0 < / (1 + t)) by (apply Rinv_0_lt_compat; lra); lra. Qed.

(* KL(p_hat || p): 1/(1 + tau) - 1 + log(1 + tau), weight 1 / (1 + tau)^2. *)
Program Definition reverse_kl : profile :=
  {| term := fun t => / (1 + t) - 1 + ln (1 + t); weight := fun t => / (1 + t) ^ 2; curve := fun t => / (1 + t) ^ 2 |}.
Next Obligation. rewrite Rplus_0_r, ln_1; field. Qed.
Next Obligation. auto_derive; [repeat split; lra | field; lra]. Qed.
Next Obligation. left; apply Rinv_0_lt_compat; nra. Qed.
Next Obligation. apply Rinv_le_contravar; nra. Qed.
Next Obligation. left; apply Rinv_0_lt_compat; nra. Qed.
Next Obligation. apply Rinv_le_contravar; nra. Qed.
Next Obligation. assert (0 < / ((1 + t) * ((1 + t) * 1))) by (apply Rinv_0_lt_compat; nra); lra. Qed.

(* W_2(p, p_hat)^2: (1/sqrt(1 + tau) - 1)^2, weight 1 / (1 + tau)^2. *)
Program Definition w2 : profile :=
  {| term := fun t => (/ sqrt (1 + t) - 1) ^ 2; weight := fun t => / (1 + t) ^ 2;
     curve := fun t => / ((1 + sqrt (1 + t)) * (1 + t) ^ 2) |}.
Next Obligation. rewrite Rplus_0_r, sqrt_1; field. Qed.
Next Obligation.
assert (root : 0 < sqrt (1 + t)) by (apply sqrt_lt_R0; lra).
assert (square : sqrt (1 + t) * sqrt (1 + t) = 1 + t) by (apply sqrt_sqrt; lra).
auto_derive; [repeat split; lra | ].
set (s := sqrt (1 + t)) in *; replace t with (s * s - 1) by lra; field; nra.
Qed.
Next Obligation.
pose proof (sqrt_pos (1 + t)); left; apply Rinv_0_lt_compat, Rmult_lt_0_compat; nra.
Qed.
Next Obligation.
assert (sqrt (1 + s) <= sqrt (1 + t)) by (apply sqrt_le_1; lra); pose proof (sqrt_pos (1 + s)).
apply Rinv_le_contravar; [apply Rmult_lt_0_compat; nra | apply Rmult_le_compat; nra].
Qed.
Next Obligation. left; apply Rinv_0_lt_compat; nra. Qed.
Next Obligation. apply Rinv_le_contravar; nra. Qed.
Next Obligation.
pose proof (sqrt_pos (1 + t)); set (u := (1 + t) * ((1 + t) * 1)) in *.
assert (0 < u) by (unfold u; nra).
assert (/ ((1 + sqrt (1 + t)) * u) <= / u) by (apply Rinv_le_contravar; nra).
assert (0 < / u) by (apply Rinv_0_lt_compat; lra); lra.
Qed.

(* Dither (T5 (i)): a weight that lies f above a grid point, rounded with an offset v that is uniform on (-1/2, 1/2), in
   steps. Its error has mean 0 and variance 1/12, whatever f is. *)
Definition dither_error (f v : R) : R := if Rlt_dec (f + v) (1 / 2) then - (f + v) else 1 - (f + v).

Lemma integral_in_two (g left_part right_part : R -> R) (F_left F_right : R -> R) (f value : R) : 0 <= f < 1 ->
  (forall v, f + v < 1 / 2 -> g v = left_part v) -> (forall v, 1 / 2 < f + v -> g v = right_part v) ->
  (forall v, is_derive F_left v (left_part v)) -> (forall v, is_derive F_right v (right_part v)) ->
  (forall v, continuous left_part v) -> (forall v, continuous right_part v) ->
  F_left (1 / 2 - f) - F_left (- (1 / 2)) + (F_right (1 / 2) - F_right (1 / 2 - f)) = value ->
  is_RInt g (- (1 / 2)) (1 / 2) value.
Proof.
intros range on_left on_right dl dr cl cr <-.
apply (is_RInt_Chasles g (- (1 / 2)) (1 / 2 - f) (1 / 2)).
- apply (is_RInt_ext left_part).
  + intros v; rewrite Rmin_left, Rmax_right by lra; intros inside; symmetry; apply on_left; lra.
  + apply (is_RInt_derive F_left left_part); intros v _; [apply dl | apply cl].
- apply (is_RInt_ext right_part).
  + intros v; rewrite Rmin_left, Rmax_right by lra; intros inside; symmetry; apply on_right; lra.
  + apply (is_RInt_derive F_right right_part); intros v _; [apply dr | apply cr].
Qed.

Ltac polynomial := intros; (auto_derive; [exact I | field]) || (apply (ex_derive_continuous (V := R_NormedModule)); auto_derive; exact I).

Lemma dither_mean (f : R) : 0 <= f < 1 -> is_RInt (dither_error f) (- (1 / 2)) (1 / 2) 0.
Proof.
intros range.
apply (integral_in_two _ (fun v => - (f + v)) (fun v => 1 - (f + v)) (fun v => - (f + v) ^ 2 / 2)
  (fun v => - (1 - (f + v)) ^ 2 / 2) f); try exact range; try polynomial.
- intros v below; unfold dither_error; destruct (Rlt_dec (f + v) (1 / 2)); [reflexivity | lra].
- intros v above; unfold dither_error; destruct (Rlt_dec (f + v) (1 / 2)); [lra | reflexivity].
- field.
Qed.

Lemma dither_variance (f : R) : 0 <= f < 1 -> is_RInt (fun v => dither_error f v ^ 2) (- (1 / 2)) (1 / 2) (1 / 12).
Proof.
intros range.
apply (integral_in_two _ (fun v => (f + v) ^ 2) (fun v => (1 - (f + v)) ^ 2) (fun v => (f + v) ^ 3 / 3)
  (fun v => - (1 - (f + v)) ^ 3 / 3) f); try exact range; try polynomial.
- intros v below; unfold dither_error; destruct (Rlt_dec (f + v) (1 / 2)); [ring | lra].
- intros v above; unfold dither_error; destruct (Rlt_dec (f + v) (1 / 2)); [lra | ring].
- field.
Qed.

(* Corollary 3.9, second line, at d = m = W = b = 1 and Delta = 1/2: the divergence at delta = -1/2 is log(2)/2, above
   the printed bound at every delta of the ball. *)
Definition divergence_in_one_dimension (delta : R) : R := (delta - ln (1 + delta) + delta ^ 2 / (1 + delta)) / 2.
Definition printed_bound (delta : R) : R := (1 + delta - ln (1 + delta) - 1 + (1 / 2) ^ 2 * (1 + delta)) / 2.

Lemma printed_bound_exceeded (delta : R) : - (1 / 2) <= delta <= 1 / 2 ->
  printed_bound delta < divergence_in_one_dimension (- (1 / 2)).
Proof.
intros range; unfold printed_bound, divergence_in_one_dimension.
interval with (i_bisect delta, i_prec 40).
Qed.
