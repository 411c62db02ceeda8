(* The loss of a model that is linear in its weights, and what moving the weights by delta adds to it: Theorems T3, T6
   (one loss for all points) and T7.

   Eq. (9) and (10): score theta phi / m, loss |theta phi / m - g|^2, in expectation under any law of phi and g with
   second moments. Everything here is for every d and m, over every ordered field. *)
From mathcomp Require Import all_ssreflect all_algebra ring.
From Flatness Require Import expectation.
Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Import GRing.Theory Num.Theory Order.Theory.
Local Open Scope ring_scope.

(* |v|^2 of a column, the squared Frobenius norm of a matrix, and the product that belongs to it. *)
Definition sqnorm (R : ringType) n (v : 'cV[R]_n) : R := \sum_i v i 0 ^+ 2.
Definition frobenius2 (R : ringType) d m (D : 'M[R]_(d, m)) : R := \sum_i \sum_j D i j ^+ 2.
Definition dot (R : ringType) d m (D C : 'M[R]_(d, m)) : R := \sum_i \sum_j D i j * C i j.

(* tr(delta G delta^T) / m^2. *)
Definition J (R : unitRingType) d m (G : 'M[R]_m) (delta : 'M[R]_(d, m)) : R :=
  \tr (delta *m G *m delta^T) / m%:R ^+ 2.

(* v^T G v. *)
Definition quadratic (R : ringType) m (G : 'M[R]_m) (v : 'cV[R]_m) : R := \sum_j \sum_k v j 0 * v k 0 * G j k.

(* The largest eigenvalue of a symmetric G, by what is used of it: the largest value of v^T G v over unit v. *)
Definition largest (R : numDomainType) m (G : 'M[R]_m) (top : R) : Prop :=
  (forall v, quadratic G v <= top * sqnorm v) /\ exists v, sqnorm v = 1 /\ quadratic G v = top.

Section Form.
Variables (R : realFieldType) (d m : nat).
Implicit Types (delta epsilon : 'M[R]_(d, m)) (G : 'M[R]_m).

Lemma sqnorm_ge0 n (v : 'cV[R]_n) : 0 <= sqnorm v.
Proof. by apply: sumr_ge0 => i _; apply: sqr_ge0. Qed.

Lemma frobenius2_ge0 delta : 0 <= frobenius2 delta.
Proof. by apply: sumr_ge0 => i _; apply: sumr_ge0 => j _; apply: sqr_ge0. Qed.

Lemma frobenius2_trace delta : frobenius2 delta = \tr (delta *m delta^T).
Proof.
apply: eq_bigr => i _; rewrite mxE; apply: eq_bigr => j _.
by rewrite mxE expr2.
Qed.

Lemma frobenius2_rows delta : frobenius2 delta = \sum_i sqnorm (row i delta)^T.
Proof. by apply: eq_bigr => i _; apply: eq_bigr => j _; rewrite !mxE. Qed.

Lemma J_sum G delta :
  J G delta = (\sum_i \sum_j \sum_k delta i j * delta i k * G j k) / m%:R ^+ 2.
Proof.
congr (_ / _); apply: eq_bigr => i _; rewrite mxE exchange_big /=.
apply: eq_bigr => k _; rewrite !mxE mulr_suml /=; apply: eq_bigr => j _; ring.
Qed.

Lemma J_rows G delta : J G delta = (\sum_i quadratic G (row i delta)^T) / m%:R ^+ 2.
Proof.
rewrite J_sum; congr (_ / _); apply: eq_bigr => i _; apply: eq_bigr => j _.
by apply: eq_bigr => k _; rewrite !mxE.
Qed.

Lemma J_opp G delta : J G (- delta) = J G delta.
Proof. by rewrite /J linearN mulNmx mulmxN mulNmx opprK. Qed.

Lemma J_scale G delta a : J G (a *: delta) = a ^+ 2 * J G delta.
Proof. by rewrite /J linearZ -!scalemxAl -scalemxAr scalerA linearZ /= expr2 mulrA. Qed.

(* The second difference of the rise, in any direction. *)
Lemma J_second_difference G delta epsilon :
  J G (delta + epsilon) + J G (delta - epsilon) = 2%:R * (J G delta + J G epsilon).
Proof.
have expand (a b e f g : R) : (a + e) * (b + f) * g + (a - e) * (b - f) * g = 2%:R * (a * b * g + e * f * g) by ring.
rewrite !J_sum -!mulrDl mulrA; congr (_ / _); rewrite -!big_split mulr_sumr /=; apply: eq_bigr => i _.
rewrite -!big_split mulr_sumr; apply: eq_bigr => j _; rewrite -!big_split mulr_sumr; apply: eq_bigr => k _ /=.
rewrite !mxE; exact: expand.
Qed.

(* Of two numbers one is at least their mean: so one of delta and -delta costs J(delta) or more. *)
Lemma one_of_two (a b mean : R) : a + b = 2%:R * mean -> mean <= a \/ mean <= b.
Proof.
move=> sum; case: (lerP mean a) => [|small]; [by left | right].
rewrite leNgt; apply/negP => small'.
by have := ltr_add small small'; rewrite sum mulr_natl mulr2n ltxx.
Qed.

(* A quadratic without constant that is never negative has no linear term. *)
Lemma no_linear_term (a b : R) : 0 <= b -> (forall t, 0 <= t * a + t ^+ 2 * b) -> a = 0.
Proof.
move=> b0 nonneg; have pos : 0 < b + 1 by apply: ltr_paddl b0 _; rewrite ltr01.
have := nonneg (- a / (b + 1)).
have -> : - a / (b + 1) * a + (- a / (b + 1)) ^+ 2 * b = - (a / (b + 1)) ^+ 2.
  by field; rewrite gt_eqF.
rewrite oppr_ge0 => small.
have /eqP : (a / (b + 1)) ^+ 2 = 0 by apply: le_anti; rewrite small sqr_ge0.
by rewrite sqrf_eq0 mulf_eq0 invr_eq0 (gt_eqF pos) orbF => /eqP.
Qed.

Lemma quadratic_le_J G top delta :
  (forall v, quadratic G v <= top * sqnorm v) -> J G delta <= top * frobenius2 delta / m%:R ^+ 2.
Proof.
move=> most; rewrite J_rows frobenius2_rows ler_wpmul2r ?invr_ge0 ?exprn_ge0 ?ler0n //.
by rewrite mulr_sumr; apply: ler_sum => i _; apply: most.
Qed.

(* delta = rho u v^T with unit u and v: |delta| = rho, and J is rho^2 v^T G v / m^2. *)
Lemma frobenius2_outer (u : 'cV[R]_d) (v : 'cV[R]_m) : frobenius2 (u *m v^T) = sqnorm u * sqnorm v.
Proof.
rewrite mulr_suml; apply: eq_bigr => i _; rewrite mulr_sumr; apply: eq_bigr => j _.
by rewrite !mxE big_ord1 !mxE exprMn.
Qed.

Lemma J_outer G (u : 'cV[R]_d) (v : 'cV[R]_m) : J G (u *m v^T) = sqnorm u * quadratic G v / m%:R ^+ 2.
Proof.
have expand (a b c e : R) : a * b * (a * c) * e = a ^+ 2 * (b * c * e) by ring.
rewrite J_sum; congr (_ / _); rewrite mulr_suml; apply: eq_bigr => i _; rewrite mulr_sumr.
apply: eq_bigr => j _; rewrite mulr_sumr; apply: eq_bigr => k _ /=.
rewrite !mxE !big_ord1 !mxE; exact: expand.
Qed.

Lemma frobenius2_scale a delta : frobenius2 (a *: delta) = a ^+ 2 * frobenius2 delta.
Proof.
rewrite mulr_sumr; apply: eq_bigr => i _; rewrite mulr_sumr; apply: eq_bigr => j _.
by rewrite mxE exprMn.
Qed.

End Form.

Lemma sqnorm_delta (R : realFieldType) n (i : 'I_n) : sqnorm (delta_mx i 0 : 'cV[R]_n) = 1.
Proof.
rewrite /sqnorm (bigD1 i) //= big1 => [|k /negPf ki]; first by rewrite mxE !eqxx expr1n addr0.
by rewrite mxE ki expr0n.
Qed.

(* J at its largest over the ball |delta| <= rho, and where. *)
Lemma J_over_the_ball (R : realFieldType) d m (G : 'M[R]_m) top (rho : R) : (0 < d)%N -> 0 <= top -> largest G top ->
  (forall delta : 'M[R]_(d, m), frobenius2 delta <= rho ^+ 2 -> J G delta <= rho ^+ 2 * top / m%:R ^+ 2) /\
  exists delta : 'M[R]_(d, m), frobenius2 delta = rho ^+ 2 /\ J G delta = rho ^+ 2 * top / m%:R ^+ 2.
Proof.
move=> d0 top0 [most [v [unit_v at_v]]]; split.
  move=> delta small; apply: (le_trans (quadratic_le_J delta most)).
  by rewrite ler_wpmul2r ?invr_ge0 ?exprn_ge0 ?ler0n // [rho ^+ 2 * _]mulrC ler_wpmul2l.
exists (rho *: ((delta_mx (Ordinal d0) 0 : 'cV[R]_d) *m v^T)).
rewrite frobenius2_scale frobenius2_outer J_scale J_outer sqnorm_delta unit_v at_v !mulr1 mul1r.
by rewrite mulrA.
Qed.

(* The loss, under any law of phi and g with second moments. *)
Section Loss.
Variables (R : realFieldType) (d m : nat) (T : Type) (E : expectation R T).
Variables (phi : T -> 'cV[R]_m) (g : T -> 'cV[R]_d).
Implicit Types (theta delta : 'M[R]_(d, m)).

Definition residual theta x : 'cV[R]_d := m%:R^-1 *: (theta *m phi x) - g x.
Definition loss theta : R := mean E (fun x => sqnorm (residual theta x)).
Definition second_moment : 'M[R]_m := \matrix_(j, k) mean E (fun x => phi x j 0 * phi x k 0).
(* Half the gradient, times m: E[r phi^T]. *)
Definition slope theta : 'M[R]_(d, m) := \matrix_(i, j) mean E (fun x => residual theta x i 0 * phi x j 0).
Definition minimum theta : Prop := forall other, loss theta <= loss other.

Hypothesis phi_phi : forall j k, integrable E (fun x => phi x j 0 * phi x k 0).
Hypothesis g_phi : forall i j, integrable E (fun x => g x i 0 * phi x j 0).
Hypothesis g_g : forall i, integrable E (fun x => g x i 0 ^+ 2).

Lemma residualE theta x i : residual theta x i 0 = m%:R^-1 * (\sum_j theta i j * phi x j 0) - g x i 0.
Proof. by rewrite !mxE. Qed.

Lemma residual_moved theta delta x i :
  residual (theta + delta) x i 0 = residual theta x i 0 + m%:R^-1 * (\sum_j delta i j * phi x j 0).
Proof.
rewrite !residualE addrAC -mulrDr -big_split; congr (_ * _ - _).
by apply: eq_bigr => j _; rewrite mxE mulrDl.
Qed.

Lemma residual_phi_integrable theta i j : integrable E (fun x => residual theta x i 0 * phi x j 0).
Proof.
apply: (@integrable_ext _ _ _
  (fun x => m%:R^-1 * (\sum_k theta i k * (phi x k 0 * phi x j 0)) + - (g x i 0 * phi x j 0))).
  move=> x; rewrite residualE mulrBl -mulrA mulr_suml; congr (_ * _ - _).
  by apply: eq_bigr => k _; rewrite mulrA.
apply: integrable_add; last exact/integrable_opp/g_phi.
by apply/integrable_scale/integrable_sum => k; apply/integrable_scale/phi_phi.
Qed.

Lemma residual_square_integrable theta i : integrable E (fun x => residual theta x i 0 ^+ 2).
Proof.
apply: (@integrable_ext _ _ _ (fun x => m%:R^-1 * (\sum_j theta i j * (residual theta x i 0 * phi x j 0))
  + ((- m%:R^-1) * (\sum_j theta i j * (g x i 0 * phi x j 0)) + g x i 0 ^+ 2))).
  move=> x; set s := \sum_j theta i j * phi x j 0.
  have pull (a : R) : \sum_j theta i j * (a * phi x j 0) = a * s.
    by rewrite mulr_sumr; apply: eq_bigr => j _; rewrite mulrCA.
  by rewrite !pull !residualE -/s; ring.
do 2?apply: integrable_add => //; apply/integrable_scale/integrable_sum => j; apply: integrable_scale => //.
exact: residual_phi_integrable.
Qed.

(* Eq. (9): the expected loss is quadratic in theta, with the same second-order term everywhere. *)
Theorem loss_moved theta delta :
  loss (theta + delta) = loss theta + (2%:R / m%:R * dot delta (slope theta) + J second_moment delta).
Proof.
pose cross i j x := residual theta x i 0 * phi x j 0.
pose square j k x := phi x j 0 * phi x k 0.
have split_up x : sqnorm (residual (theta + delta) x) = \sum_i residual theta x i 0 ^+ 2
    + (2%:R / m%:R * (\sum_i \sum_j delta i j * cross i j x)
    + m%:R ^- 2 * (\sum_i \sum_j \sum_k delta i j * delta i k * square j k x)).
  rewrite !mulr_sumr -!big_split; apply: eq_bigr => i _ /=; rewrite residual_moved.
  set s := \sum_j delta i j * phi x j 0; set r := residual theta x i 0.
  have -> : \sum_j delta i j * cross i j x = r * s.
    by rewrite mulr_sumr; apply: eq_bigr => j _; rewrite mulrCA.
  have -> : \sum_j \sum_k delta i j * delta i k * square j k x = s * s.
    rewrite {1}/s mulr_suml; apply: eq_bigr => j _; rewrite mulr_sumr; apply: eq_bigr => k _.
    by rewrite /square -!mulrA; congr (_ * _); rewrite mulrCA.
  by rewrite -exprVn; ring.
rewrite /loss (mean_ext _ split_up).
have int_cross : integrable E (fun x => \sum_i \sum_j delta i j * cross i j x).
  by do 2!apply: integrable_sum => ?; apply/integrable_scale/residual_phi_integrable.
have int_square : integrable E (fun x => \sum_i \sum_j \sum_k delta i j * delta i k * square j k x).
  by do 3!apply: integrable_sum => ?; apply/integrable_scale/phi_phi.
rewrite mean_add; first last.
- by apply: integrable_add; apply: integrable_scale.
- by apply: integrable_sum => i; apply: residual_square_integrable.
congr (_ + _); rewrite mean_add; try exact: integrable_scale.
rewrite !mean_scale // J_sum [X in _ + X]mulrC; congr (_ * _ + _ * _).
  rewrite mean_sum => [|i]; last by apply: integrable_sum => j; apply/integrable_scale/residual_phi_integrable.
  apply: eq_bigr => i _; rewrite mean_sum => [|j]; last exact/integrable_scale/residual_phi_integrable.
  by apply: eq_bigr => j _; rewrite mean_scale ?mxE //; apply: residual_phi_integrable.
rewrite mean_sum => [|i]; last by do 2!apply: integrable_sum => ?; apply/integrable_scale/phi_phi.
apply: eq_bigr => i _; rewrite mean_sum => [|j]; last by apply: integrable_sum => k; apply/integrable_scale/phi_phi.
apply: eq_bigr => j _; rewrite mean_sum => [|k]; last exact/integrable_scale/phi_phi.
by apply: eq_bigr => k _; rewrite mean_scale ?mxE; last exact: phi_phi.
Qed.

End Loss.

Section Flatness.
Variables (R : realFieldType) (d m : nat) (T : Type) (E : expectation R T).
Variables (phi : T -> 'cV[R]_m) (g : T -> 'cV[R]_d).
Hypothesis phi_phi : forall j k, integrable E (fun x => phi x j 0 * phi x k 0).
Hypothesis g_phi : forall i j, integrable E (fun x => g x i 0 * phi x j 0).
Hypothesis g_g : forall i, integrable E (fun x => g x i 0 ^+ 2).
Implicit Types (theta delta : 'M[R]_(d, m)).
Notation L := (loss E phi g).
Notation G := (second_moment E phi).
Notation moved := (loss_moved phi_phi g_phi g_g).

Fact dot_scale a theta delta : dot (a *: delta) theta = a * dot delta theta.
Proof.
rewrite mulr_sumr; apply: eq_bigr => i _; rewrite mulr_sumr; apply: eq_bigr => j _.
by rewrite mxE mulrA.
Qed.

Fact dot_opp theta delta : dot (- delta) theta = - dot delta theta.
Proof. by rewrite -scaleN1r dot_scale mulN1r. Qed.

(* Half the second difference of the loss is J, whatever theta is. *)
Theorem second_difference theta delta : L (theta + delta) + L (theta - delta) = 2%:R * (L theta + J G delta).
Proof. by rewrite !moved J_opp dot_opp; ring. Qed.

(* T6 (ii), one step: of delta and -delta one raises the loss by J(delta) or more. *)
Theorem rise_in_one_direction theta delta :
  L theta + J G delta <= L (theta + delta) \/ L theta + J G delta <= L (theta - delta).
Proof. exact/one_of_two/second_difference. Qed.

(* The rise is the expectation of a square. *)
Lemma quadratic_second_moment (v : 'cV[R]_m) :
  quadratic G v = mean E (fun x => (\sum_j v j 0 * phi x j 0) ^+ 2).
Proof.
have int j : integrable E (fun x => \sum_k v j 0 * v k 0 * (phi x j 0 * phi x k 0)).
  by apply: integrable_sum => k; apply/integrable_scale/phi_phi.
rewrite (@mean_ext _ _ E _ (fun x => \sum_j \sum_k v j 0 * v k 0 * (phi x j 0 * phi x k 0))); last first.
  move=> x; rewrite expr2 mulr_suml; apply: eq_bigr => j _; rewrite mulr_sumr; apply: eq_bigr => k _.
  by rewrite mulrACA.
rewrite mean_sum //; apply: eq_bigr => j _; rewrite mean_sum => [|k]; last exact/integrable_scale/phi_phi.
by apply: eq_bigr => k _; rewrite mean_scale ?mxE; last exact: phi_phi.
Qed.

Lemma quadratic_ge0 v : 0 <= quadratic G v.
Proof.
rewrite quadratic_second_moment; apply: mean_ge0 => [|x]; last exact: sqr_ge0.
apply: (@integrable_ext _ _ _ (fun x => \sum_j \sum_k v j 0 * v k 0 * (phi x j 0 * phi x k 0))).
  move=> x; rewrite expr2 mulr_suml; apply: eq_bigr => j _; rewrite mulr_sumr; apply: eq_bigr => k _.
  by rewrite mulrACA.
by do 2!apply: integrable_sum => ?; apply/integrable_scale/phi_phi.
Qed.

Lemma J_ge0 delta : 0 <= J G delta.
Proof.
rewrite J_rows divr_ge0 ?exprn_ge0 ?ler0n //.
by apply: sumr_ge0 => i _; apply: quadratic_ge0.
Qed.

Lemma largest_ge0 top : largest G top -> 0 <= top.
Proof. by case=> _ [v [_ <-]]; apply: quadratic_ge0. Qed.

(* The linear term vanishes at a minimum. *)
Lemma slope_vanishes theta delta : minimum E phi g theta -> 2%:R / m%:R * dot delta (slope E phi g theta) = 0.
Proof.
move=> least; apply: (no_linear_term (J_ge0 delta)) => t.
have := least (theta + t *: delta).
by rewrite moved J_scale dot_scale ler_addl mulrCA.
Qed.

(* T3 (i): the rise from a minimum is J, of delta and G alone, so that all minima are equally flat. *)
Theorem rise_at_a_minimum theta delta : minimum E phi g theta -> L (theta + delta) = L theta + J G delta.
Proof. by move=> least; rewrite moved slope_vanishes // add0r. Qed.

Theorem equally_flat theta other delta : minimum E phi g theta -> minimum E phi g other ->
  L (theta + delta) - L theta = L (other + delta) - L other.
Proof. by move=> least least'; rewrite !rise_at_a_minimum // !(addrC (L _)) !addrK. Qed.

(* T3 (iii): at radius Delta with Delta^2 = m^2 kappa / lambda_max(G) the loss has risen by kappa, and by no more. *)
Theorem flat_radius theta top kappa Delta : minimum E phi g theta -> largest G top -> m%:R != 0 :> R ->
  Delta ^+ 2 * top = m%:R ^+ 2 * kappa -> (0 < d)%N ->
  (forall delta, frobenius2 delta <= Delta ^+ 2 -> L (theta + delta) <= L theta + kappa) /\
  exists delta, frobenius2 delta = Delta ^+ 2 /\ L (theta + delta) = L theta + kappa.
Proof.
move=> least top_G m0 radius d0; have top0 := largest_ge0 top_G.
have rise : Delta ^+ 2 * top / m%:R ^+ 2 = kappa by rewrite radius mulrAC mulfV ?mul1r // expf_neq0.
have [bound [delta [size attained]]] := J_over_the_ball Delta d0 top0 top_G.
split=> [delta' small|]; first by rewrite rise_at_a_minimum // ler_add2l -rise bound.
by exists delta; rewrite rise_at_a_minimum // attained rise.
Qed.

(* T6 (i): at a minimum the largest loss over SAM's ball is the loss plus rho^2 lambda_max(G) / m^2. *)
Theorem sam_at_a_minimum theta top rho : minimum E phi g theta -> largest G top -> (0 < d)%N ->
  (forall delta, frobenius2 delta <= rho ^+ 2 -> L (theta + delta) <= L theta + rho ^+ 2 * top / m%:R ^+ 2) /\
  exists delta, frobenius2 delta = rho ^+ 2 /\ L (theta + delta) = L theta + rho ^+ 2 * top / m%:R ^+ 2.
Proof.
move=> least top_G d0.
have [bound [delta [size attained]]] := J_over_the_ball rho d0 (largest_ge0 top_G) top_G.
split=> [delta' small|]; first by rewrite rise_at_a_minimum // ler_add2l bound.
by exists delta; rewrite rise_at_a_minimum // attained.
Qed.

(* T6 (ii): and nowhere less than that above the loss. *)
Theorem sam_elsewhere theta top rho : largest G top -> (0 < d)%N ->
  exists delta, frobenius2 delta = rho ^+ 2 /\ L theta + rho ^+ 2 * top / m%:R ^+ 2 <= L (theta + delta).
Proof.
move=> top_G d0.
have [_ [delta [size attained]]] := J_over_the_ball rho d0 (largest_ge0 top_G) top_G.
have [more|more] := rise_in_one_direction theta delta; rewrite attained in more; first by exists delta.
by exists (- delta); split=> //; rewrite -scaleN1r frobenius2_scale sqrrN expr1n mul1r.
Qed.

(* So that full-batch SAM with its exact maximum moves no minimiser: what minimises the one minimises the other. *)
Definition worst theta rho value : Prop :=
  (forall delta, frobenius2 delta <= rho ^+ 2 -> L (theta + delta) <= value) /\
  exists delta, frobenius2 delta <= rho ^+ 2 /\ L (theta + delta) = value.

Theorem sam_moves_no_minimiser theta other top rho value value' :
  minimum E phi g theta -> largest G top -> (0 < d)%N ->
  worst theta rho value -> worst other rho value' ->
  value <= value' /\ (value' <= value -> minimum E phi g other).
Proof.
move=> least top_G d0 [_ [delta [size <-]]] [bound' _].
have [bound _] := sam_at_a_minimum rho least top_G d0.
have [far [far_size above]] := sam_elsewhere other rho top_G d0.
have least' := bound' far; rewrite far_size lexx in least'.
split=> [|most].
  by apply: (le_trans (bound _ size)); apply: le_trans (least' isT); apply: le_trans above; rewrite ler_add2r least.
move=> third; apply: le_trans (least third).
rewrite -(ler_add2r (rho ^+ 2 * top / m%:R ^+ 2)).
by apply: (le_trans above); apply: (le_trans (least' isT)); apply: (le_trans most); apply: bound.
Qed.

(* T3 (ii): noise on the weights, of mean 0, uncorrelated within each row. *)
Section Noise.
Variables (Omega : Type) (N : expectation R Omega) (noise : Omega -> 'M[R]_(d, m)) (variance : 'I_d -> 'I_m -> R).
Hypothesis entries : forall i j, integrable N (fun w => noise w i j).
Hypothesis products : forall i j k, integrable N (fun w => noise w i j * noise w i k).
Hypothesis mean_zero : forall i j, mean N (fun w => noise w i j) = 0.
Hypothesis uncorrelated : forall i j k,
  mean N (fun w => noise w i j * noise w i k) = if j == k then variance i j else 0.

Lemma mean_J_of_noise (A : 'M[R]_m) :
  mean N (fun w => J A (noise w)) = (\sum_i \sum_j variance i j * A j j) / m%:R ^+ 2.
Proof.
pose term i j k w := A j k * (noise w i j * noise w i k).
have int i j k : integrable N (term i j k) by apply/integrable_scale/products.
rewrite (@mean_ext _ _ N _ (fun w => m%:R ^- 2 * \sum_i \sum_j \sum_k term i j k w)); last first.
  move=> w; rewrite J_sum mulrC; congr (_ * _).
  by apply: eq_bigr => i _; apply: eq_bigr => j _; apply: eq_bigr => k _; rewrite mulrC.
rewrite mean_scale; last by do 3!apply: integrable_sum => ?; apply: int.
rewrite mulrC; congr (_ / _); rewrite mean_sum => [|i]; last by do 2!apply: integrable_sum => ?; apply: int.
apply: eq_bigr => i _; rewrite mean_sum => [|j]; last by apply: integrable_sum => ?; apply: int.
apply: eq_bigr => j _; rewrite mean_sum => [|k]; last exact: int.
rewrite (bigD1 j) //= big1 => [|k kj]; rewrite mean_scale ?uncorrelated; try exact: products.
  by rewrite eqxx addr0 mulrC.
by rewrite eq_sym (negPf kj) mulr0.
Qed.

Let linear theta w := \sum_i \sum_j slope E phi g theta i j * noise w i j.

Lemma linear_integrable theta : integrable N (linear theta).
Proof. by do 2!apply: integrable_sum => ?; apply/integrable_scale/entries. Qed.

Lemma J_of_noise_integrable A : integrable N (fun w => J A (noise w)).
Proof.
apply: (@integrable_ext _ _ _ (fun w => m%:R ^- 2 * \sum_i \sum_j \sum_k A j k * (noise w i j * noise w i k))).
  move=> w; rewrite J_sum mulrC; congr (_ / _).
  by apply: eq_bigr => i _; apply: eq_bigr => j _; apply: eq_bigr => k _; rewrite mulrC.
by apply: integrable_scale; do 3!apply: integrable_sum => ?; apply/integrable_scale/products.
Qed.

Lemma noisy_loss theta w : L (theta + noise w) = L theta + (2%:R / m%:R * linear theta w + J G (noise w)).
Proof.
rewrite moved; congr (_ + (_ * _ + _)).
by apply: eq_bigr => i _; apply: eq_bigr => j _; rewrite mulrC.
Qed.

Lemma noisy_loss_integrable theta : integrable N (fun w => L (theta + noise w)).
Proof.
apply: (@integrable_ext _ _ _ (fun w => L theta + (2%:R / m%:R * linear theta w + J G (noise w)))).
  by move=> w; rewrite noisy_loss.
apply: integrable_add; first exact: integrable_cst.
by apply: integrable_add (J_of_noise_integrable _); apply/integrable_scale/linear_integrable.
Qed.

Theorem rise_under_noise theta :
  mean N (fun w => L (theta + noise w)) = L theta + (\sum_i \sum_j variance i j * G j j) / m%:R ^+ 2.
Proof.
have int_linear := linear_integrable theta; have int_J := J_of_noise_integrable G.
rewrite (mean_ext _ (noisy_loss theta)).
rewrite mean_add; [|exact: integrable_cst|by apply: integrable_add => //; apply: integrable_scale].
rewrite mean_cst mean_add ?mean_scale ?mean_J_of_noise //; last exact: integrable_scale.
rewrite [X in _ * X](_ : _ = 0) ?mulr0 ?add0r // mean_sum => [|i]; last first.
  by apply: integrable_sum => ?; apply/integrable_scale/entries.
rewrite big1 // => i _; rewrite mean_sum => [|j]; last exact/integrable_scale/entries.
by rewrite big1 // => j _; rewrite mean_scale ?mean_zero ?mulr0 //; apply: entries.
Qed.

Corollary rise_under_equal_noise theta s2 : (forall i j, variance i j = s2) ->
  mean N (fun w => L (theta + noise w)) = L theta + s2 * d%:R * \tr G / m%:R ^+ 2.
Proof.
move=> equal; rewrite rise_under_noise; congr (_ + _ / _).
rewrite (eq_bigr (fun=> s2 * \tr G)) => [|i _]; last first.
  by rewrite mulr_sumr; apply: eq_bigr => j _; rewrite equal.
by rewrite sumr_const card_ord -mulr_natl; ring.
Qed.

End Noise.

End Flatness.
