(* Theorem T1: which perturbations delta make delta phi / m a gradient field, phi = sigma(W^T x + b).

   The Jacobian of delta phi(x) is delta diag(s(x)) W^T, with s_j(x) = sigma'(w_j^T x + b_j); on R^d a field is a gradient
   exactly where its Jacobian is symmetric, which is what `admissible` asks for, at every x of a set X. *)
From mathcomp Require Import all_ssreflect all_algebra ring.
From Flatness Require Import quadratic_rise.
Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Import GRing.Theory Num.Theory Order.Theory.
Local Open Scope ring_scope.

Section Admissible.
Variables (R : realFieldType) (d m : nat).
Implicit Types (delta W : 'M[R]_(d, m)).

(* Two columns whose outer product is symmetric are parallel: v w^T = w v^T. *)
Lemma parallel (v w : 'cV[R]_d) : v *m w^T = w *m v^T -> w != 0 -> v = (dot v w / sqnorm w) *: w.
Proof.
move=> symmetric w0.
have swap i k : v i 0 * w k 0 = w i 0 * v k 0.
  by have /matrixP /(_ i k) := symmetric; rewrite !mxE !big_ord1 !mxE.
have length : sqnorm w != 0.
  apply: contra w0 => /eqP zero; apply/eqP/colP => i; rewrite mxE.
  have /eqP := zero; rewrite psumr_eq0 => [/allP /(_ i)|k _]; last exact: sqr_ge0.
  by rewrite mem_index_enum sqrf_eq0 => /(_ isT) /eqP.
apply/colP => i; rewrite mxE mulrAC; apply: (mulIf length); rewrite mulfVK //.
rewrite mulr_sumr mulr_suml; apply: eq_bigr => k _; rewrite big_ord1 expr2 mulrA swap.
by rewrite [RHS]mulrC mulrA.
Qed.

(* The Jacobian at slopes s, and its skew part: a combination of the columns' outer products. *)
Definition jacobian delta W (s : 'rV[R]_m) : 'M[R]_d := delta *m diag_mx s *m W^T.

Lemma jacobianE delta W s i k : jacobian delta W s i k = \sum_j s 0 j * (delta i j * W k j).
Proof.
by rewrite mxE; apply: eq_bigr => j _; rewrite mul_mx_diag !mxE mulrCA mulrA.
Qed.

Lemma skew_part delta W s :
  jacobian delta W s - (jacobian delta W s)^T =
  \sum_j s 0 j *: (col j delta *m (col j W)^T - col j W *m (col j delta)^T).
Proof.
apply/matrixP => i k.
have entry (A B : 'M[R]_d) : (A - B^T) i k = A i k - B k i by rewrite !mxE.
rewrite summxE entry !jacobianE -sumrB.
apply: eq_bigr => j _; rewrite !mxE !big_ord1 !mxE mulrBr.
by rewrite [W i j * _]mulrC.
Qed.

Variables (X : Type) (slopes : X -> 'rV[R]_m).

Definition admissible delta W : Prop := forall x, (jacobian delta W (slopes x))^T = jacobian delta W (slopes x).

(* Sufficient, whatever the activation: delta_j = c_j w_j for every j. *)
Theorem along_columns_admissible (c : 'rV[R]_m) W : admissible (W *m diag_mx c) W.
Proof.
move=> x; apply/matrixP => i k; rewrite mxE !jacobianE; apply: eq_bigr => j _.
by rewrite !mul_mx_diag !mxE; congr (_ * _); rewrite -!mulrA mulrC -mulrA mulrCA.
Qed.

(* Necessary, where the slopes are linearly independent functions of x and no column of W is 0. *)
Definition independent_slopes : Prop := forall a : 'I_m -> R,
  (forall x, \sum_j slopes x 0 j * a j = 0) -> forall j, a j = 0.

Theorem admissible_along_columns delta W : independent_slopes -> (forall j, col j W != 0) ->
  admissible delta W -> exists c : 'rV[R]_m, delta = W *m diag_mx c.
Proof.
move=> indep nonzero adm.
exists (\row_j (dot (col j delta) (col j W) / sqnorm (col j W))).
apply/matrixP => i j; rewrite mul_mx_diag !mxE.
have symmetric : col j delta *m (col j W)^T = col j W *m (col j delta)^T.
  apply/eqP; rewrite -subr_eq0; apply/eqP/matrixP => k l; rewrite [RHS]mxE.
  pose a j := (col j delta *m (col j W)^T - col j W *m (col j delta)^T) k l.
  apply: (indep a) => x.
  have /matrixP /(_ k l) := skew_part delta W (slopes x).
  rewrite (adm x) subrr mxE summxE => /esym zero.
  by rewrite -[RHS]zero; apply: eq_bigr => n _; rewrite [in RHS]mxE.
have /colP /(_ i) := parallel symmetric (nonzero j).
by rewrite !mxE => ->; rewrite mulrC.
Qed.

(* So the admissible delta have m dimensions: c gives each once. *)
Theorem along_columns_once (c c' : 'rV[R]_m) W : (forall j, col j W != 0) -> W *m diag_mx c = W *m diag_mx c' -> c = c'.
Proof.
move=> nonzero same; apply/rowP => j.
have [i Wij] : exists i, W i j != 0.
  have /matrix0Pn[i [k]] := nonzero j; rewrite mxE; by exists i.
by have /matrixP /(_ i j) := same; rewrite !mul_mx_diag !mxE => /(mulfI Wij).
Qed.

End Admissible.

(* For a linear activation the slopes are 1: the condition is that delta W^T is symmetric. *)
Theorem linear_admissible (R : realFieldType) d m (X : Type) (x : X) (delta W : 'M[R]_(d, m)) :
  admissible (fun _ : X => const_mx 1) delta W <-> delta *m W^T = W *m delta^T.
Proof.
rewrite /admissible /jacobian diag_const_mx mulmx1 trmx_mul trmxK.
by split=> [/(_ x) -> | -> //].
Qed.
