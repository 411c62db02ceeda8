(* Expectations as what the theorems use of them: a mean that is linear on the functions it is defined for.

   Every probability law gives one (the functions are the integrable ones), so a theorem about any `expectation` is a
   theorem about every law. Laws on finitely many points are built here, and products of them: independent draws. *)
From mathcomp Require Import all_ssreflect all_algebra ring.
Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Import GRing.Theory Num.Theory Order.Theory.
Local Open Scope ring_scope.

Record expectation (R : realFieldType) (T : Type) := Expectation {
  integrable : (T -> R) -> Prop;
  mean : (T -> R) -> R;
  integrable_ext : forall f g, f =1 g -> integrable f -> integrable g;
  integrable_cst : forall c, integrable (fun=> c);
  integrable_add : forall f g, integrable f -> integrable g -> integrable (fun x => f x + g x);
  integrable_scale : forall c f, integrable f -> integrable (fun x => c * f x);
  mean_ext : forall f g, f =1 g -> mean f = mean g;
  mean_ge0 : forall f, integrable f -> (forall x, 0 <= f x) -> 0 <= mean f;
  mean_cst : forall c, mean (fun=> c) = c;
  mean_add : forall f g, integrable f -> integrable g -> mean (fun x => f x + g x) = mean f + mean g;
  mean_scale : forall c f, integrable f -> mean (fun x => c * f x) = c * mean f
}.

Section Linear.
Variables (R : realFieldType) (T : Type) (E : expectation R T).
Implicit Types (f g : T -> R).

Lemma integrable_sum (I : Type) (r : seq I) (F : I -> T -> R) :
  (forall i, integrable E (F i)) -> integrable E (fun x => \sum_(i <- r) F i x).
Proof.
move=> int; elim: r => [|i r IH].
  by apply: integrable_ext (integrable_cst E 0) => x; rewrite big_nil.
by apply: integrable_ext (integrable_add (int i) IH) => x; rewrite big_cons.
Qed.

Lemma mean_sum (I : Type) (r : seq I) (F : I -> T -> R) :
  (forall i, integrable E (F i)) ->
  mean E (fun x => \sum_(i <- r) F i x) = \sum_(i <- r) mean E (F i).
Proof.
move=> int; elim: r => [|i r IH].
  by rewrite big_nil -[RHS](mean_cst E); apply: mean_ext => x; rewrite big_nil.
rewrite big_cons -IH -(mean_add (int i) (integrable_sum r int)).
by apply: mean_ext => x; rewrite big_cons.
Qed.

Lemma integrable_opp f : integrable E f -> integrable E (fun x => - f x).
Proof. by move=> /(integrable_scale (-1)); apply: integrable_ext => x; rewrite mulN1r. Qed.

Lemma mean_opp f : integrable E f -> mean E (fun x => - f x) = - mean E f.
Proof. by move=> int; rewrite -mulN1r -mean_scale //; apply: mean_ext => x; rewrite mulN1r. Qed.

End Linear.

(* A law on finitely many points: weights that are not negative and sum to 1. *)
Section Finite.
Variables (R : realFieldType) (T : finType) (weight : T -> R).
Hypothesis positive : forall x, 0 <= weight x.
Hypothesis total : \sum_x weight x = 1.

Definition finite_mean (f : T -> R) : R := \sum_x weight x * f x.

Fact finite_mean_cst c : finite_mean (fun=> c) = c.
Proof. by rewrite /finite_mean -big_distrl /= total mul1r. Qed.

Fact finite_mean_add f g : finite_mean (fun x => f x + g x) = finite_mean f + finite_mean g.
Proof. by rewrite /finite_mean -big_split; apply: eq_bigr => x _; rewrite mulrDr. Qed.

Fact finite_mean_scale c f : finite_mean (fun x => c * f x) = c * finite_mean f.
Proof. by rewrite /finite_mean big_distrr; apply: eq_bigr => x _; rewrite mulrCA. Qed.

Fact finite_mean_ge0 f : (forall x, 0 <= f x) -> 0 <= finite_mean f.
Proof. by move=> f0; apply: sumr_ge0 => x _; apply: mulr_ge0. Qed.

Fact finite_mean_ext f g : f =1 g -> finite_mean f = finite_mean g.
Proof. by move=> eq; apply: eq_bigr => x _; rewrite eq. Qed.

Definition finite_law : expectation R T :=
  @Expectation R T (fun=> True) finite_mean (fun _ _ _ _ => I) (fun=> I) (fun _ _ _ _ => I) (fun _ _ _ => I)
    finite_mean_ext (fun f _ => @finite_mean_ge0 f) finite_mean_cst (fun f g _ _ => finite_mean_add f g)
    (fun c f _ => finite_mean_scale c f).

End Finite.

(* Independent draws: coordinate i of `outcome` falls on v with weight `weight i v`, apart from all others. *)
Section Independent.
Variables (R : realFieldType) (I V : finType) (weight : I -> V -> R).
Hypothesis positive : forall i v, 0 <= weight i v.
Hypothesis total : forall i, \sum_v weight i v = 1.
Implicit Types (outcome : {ffun I -> V}).

Definition product_weight outcome : R := \prod_i weight i (outcome i).

Lemma product_total : \sum_outcome product_weight outcome = 1.
Proof. by rewrite -bigA_distr_bigA /= big1. Qed.

Lemma product_ge0 outcome : 0 <= product_weight outcome.
Proof. by apply: prodr_ge0 => i _; apply: positive. Qed.

Definition independent : expectation R {ffun I -> V} := finite_law product_ge0 product_total.

Lemma mean_of_factors (F : I -> V -> R) :
  mean independent (fun outcome => \prod_i F i (outcome i)) = \prod_i \sum_v weight i v * F i v.
Proof.
rewrite bigA_distr_bigA /= /finite_mean; apply: eq_bigr => outcome _.
by rewrite /product_weight -big_split.
Qed.

Lemma mean_of_one i (X : V -> R) :
  mean independent (fun outcome => X (outcome i)) = \sum_v weight i v * X v.
Proof.
pose F k v := if k == i then X v else 1.
rewrite (_ : mean _ _ = mean independent (fun outcome => \prod_k F k (outcome k))).
  rewrite mean_of_factors (bigD1 i) //= [X in _ * X]big1 ?mulr1 => [|k /negPf ki].
    by apply: eq_bigr => v _; rewrite /F eqxx.
  by rewrite -[RHS](total k); apply: eq_bigr => v _; rewrite /F ki mulr1.
apply: mean_ext => outcome; rewrite (bigD1 i) //= big1 /F ?eqxx ?mulr1 // => k /negPf ->.
by [].
Qed.

Lemma mean_of_two i j (X Y : V -> R) : i != j ->
  mean independent (fun outcome => X (outcome i) * Y (outcome j)) =
  (\sum_v weight i v * X v) * (\sum_v weight j v * Y v).
Proof.
move=> ij; pose F k v := if k == i then X v else if k == j then Y v else 1.
have ji : (j == i) = false by rewrite eq_sym (negPf ij).
rewrite (_ : mean _ _ = mean independent (fun outcome => \prod_k F k (outcome k))).
  rewrite mean_of_factors (bigD1 i) // (bigD1 j) ?ji //= [X in _ * (_ * X)]big1 => [|k /andP[/negPf ki /negPf kj]].
    rewrite mulr1; congr (_ * _); apply: eq_bigr => v _; first by rewrite /F eqxx.
    by rewrite /F ji eqxx.
  by rewrite -[RHS](total k); apply: eq_bigr => v _; rewrite /F ki kj mulr1.
apply: mean_ext => outcome.
rewrite (bigD1 i) // (bigD1 j) ?ji //= big1 /F ?eqxx ?ji ?mulr1 // => k /andP[/negPf -> /negPf ->].
by [].
Qed.

End Independent.
