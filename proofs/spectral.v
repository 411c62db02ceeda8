(* The spectral theorem: a symmetric real matrix is O diag(tau) O^T with O orthogonal. Over every real closed field.

   An eigenvector over the complex numbers exists, as they are algebraically closed; symmetry makes its eigenvalue real
   and its parts eigenvectors. A reflection turns the first unit vector to it, and what is left is a smaller matrix. *)
From mathcomp Require Import all_ssreflect all_algebra ring.
From mathcomp Require Import complex.
From Flatness Require Import quadratic_rise.
Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Import GRing.Theory Num.Theory Order.Theory.
Local Open Scope ring_scope.

Section Columns.
Variable R : realFieldType.

Lemma sqnorm_mul n (v : 'cV[R]_n) : v^T *m v = (sqnorm v)%:M.
Proof.
apply/matrixP => i j; rewrite !ord1 !mxE eqxx mulr1n.
by apply: eq_bigr => k _; rewrite mxE expr2.
Qed.

Lemma sqnorm_eq0 n (v : 'cV[R]_n) : (sqnorm v == 0) = (v == 0).
Proof.
apply/eqP/eqP => [zero | ->]; last by rewrite /sqnorm big1 // => i _; rewrite mxE expr0n.
apply/colP => i; rewrite mxE; have /eqP := zero; rewrite psumr_eq0 => [/allP /(_ i)|k _]; last exact: sqr_ge0.
by rewrite mem_index_enum sqrf_eq0 => /(_ isT) /eqP.
Qed.

Lemma sqnorm_scale n a (v : 'cV[R]_n) : sqnorm (a *: v) = a ^+ 2 * sqnorm v.
Proof. by rewrite mulr_sumr; apply: eq_bigr => i _; rewrite mxE exprMn. Qed.

(* A reflection that turns the first unit vector to v: the orthogonal matrix of first column v. *)
Lemma orthogonal_with_column n (v : 'cV[R]_n.+1) : sqnorm v = 1 ->
  exists P : 'M[R]_n.+1, P^T *m P = 1%:M /\ col 0 P = v.
Proof.
move=> unit_v; pose e : 'cV[R]_n.+1 := delta_mx 0 0; pose w := e - v.
have [w0|w0] := eqVneq w 0.
  exists 1%:M; rewrite trmx1 mulmx1; split=> //.
  have -> : v = e by apply/eqP; rewrite eq_sym -subr_eq0 -/w w0.
  by apply/colP => i; rewrite !mxE eqxx andbT.
pose c := 2%:R / sqnorm w; have s0 : sqnorm w != 0 by rewrite sqnorm_eq0.
have cs : c * sqnorm w = 2%:R by rewrite mulfVK.
have inner : sqnorm w = 2%:R * w 0 0.
  have coordinates i : w i 0 = (i == 0)%:R - v i 0 by rewrite !mxE eqxx andbT.
  rewrite /sqnorm (eq_bigr (fun i => ((i == 0)%:R - 2%:R * ((i == 0)%:R * v i 0)) + v i 0 ^+ 2)); last first.
    by move=> i _; rewrite coordinates; case: (i == 0); rewrite /=; ring.
  rewrite big_split /= -/(sqnorm v) unit_v sumrB -mulr_sumr (bigD1 0) //= big1 => [|i /negPf -> //].
  rewrite [X in _ * X](bigD1 0) //= big1 => [|i /negPf ->]; last by rewrite mul0r.
  have expand (t : R) : 1 + 0 - 2%:R * (1 * t + 0) + 1 = 2%:R * (1 - t) by ring.
  by rewrite coordinates eqxx expand.
have symmetric : (1%:M - c *: (w *m w^T))^T = 1%:M - c *: (w *m w^T).
  by rewrite linearB linearZ /= trmx1 trmx_mul trmxK.
exists (1%:M - c *: (w *m w^T)); rewrite symmetric; split.
  have square : (w *m w^T) *m (w *m w^T) = sqnorm w *: (w *m w^T).
    by rewrite mulmxA -[w *m w^T *m w]mulmxA sqnorm_mul mul_mx_scalar -scalemxAl.
  move: (w *m w^T) square => M square; rewrite mulmxBr mulmx1 mulmxBl mul1mx -scalemxAl -scalemxAr scalerA square.
  by rewrite scalerA -mulrA cs mulrC mulr_natl mulr2n scalerDl opprB addrK subrK.
apply/colP => i.
have entry (u : 'cV[R]_n.+1) : (1%:M - c *: (u *m u^T)) i 0 = (i == 0)%:R - c * (u i 0 * u 0 0).
  by rewrite !mxE big_ord1 !mxE.
have halve (k t u : R) : k * (t * u) = t * (k * (2%:R * u) / 2%:R) by field.
rewrite mxE entry halve.
by rewrite -inner cs mulfV ?mulr1 ?pnatr_eq0 // !mxE eqxx andbT opprB addrC subrK.
Qed.

End Columns.

Section Spectral.
Variable R : rcfType.

Lemma split_first n a (B : 'M[R]_(1 + n)) :
  (forall i, B i (0 : 'I_n.+1) = if i == 0 :> 'I_n.+1 then a else 0) ->
  (forall j, B (0 : 'I_n.+1) j = if j == 0 :> 'I_n.+1 then a else 0) -> B = block_mx a%:M 0 0 (drsubmx B).
Proof.
move=> left_entries top_entries.
have first_index : lshift n (0 : 'I_1) = 0 :> 'I_n.+1 by apply: val_inj.
rewrite -[LHS]submxK; congr block_mx; apply/matrixP => i j; rewrite !ord1 !mxE first_index.
- by rewrite left_entries eqxx.
- by rewrite top_entries.
- by rewrite left_entries.
Qed.

Lemma eigenvector n (A : 'M[R]_n.+1) : A^T = A -> exists a (v : 'cV[R]_n.+1), sqnorm v = 1 /\ A *m v = a *: v.
Proof.
move=> symmetric; pose C := map_mx (real_complex R) A.
have [z root_z] : exists z, root (char_poly C) z by apply/closed_rootP; rewrite size_char_poly.
rewrite -eigenvalue_root_char in root_z; have /eigenvalueP[v vC v0] := root_z.
pose x := map_mx (@complex.Re R) v; pose y := map_mx (@complex.Im R) v.
have Re_sum (F : 'I_n.+1 -> R[i]) : complex.Re (\sum_j F j) = \sum_j complex.Re (F j) by apply: raddf_sum.
have Im_sum (F : 'I_n.+1 -> R[i]) : complex.Im (\sum_j F j) = \sum_j complex.Im (F j) by apply: raddf_sum.
have xA : x *m A = complex.Re z *: x - complex.Im z *: y.
  apply/rowP => k; have /rowP /(_ k) /(congr1 (@complex.Re R)) := vC; rewrite !mxE Re_sum.
  case: (z) (v 0 k) => a b [c e] /= <-; apply: eq_bigr => j _; rewrite !mxE.
  by case: (v 0 j) => ? ? /=; rewrite mulr0 subr0.
have yA : y *m A = complex.Re z *: y + complex.Im z *: x.
  apply/rowP => k; have /rowP /(_ k) /(congr1 (@complex.Im R)) := vC; rewrite !mxE Im_sum.
  case: (z) (v 0 k) => a b [c e] /= <-; apply: eq_bigr => j _; rewrite !mxE.
  by case: (v 0 j) => ? ? /=; rewrite mulr0 add0r.
have sizes : sqnorm x^T + sqnorm y^T != 0.
  apply: contra v0 => /eqP zero; have := sqnorm_ge0 x^T; have := sqnorm_ge0 y^T.
  rewrite -(ler_add2l (sqnorm x^T)) zero addr0 => small positive.
  have x0 : x^T == 0 by rewrite -sqnorm_eq0 eq_le small.
  have y0 : y^T == 0 by rewrite -sqnorm_eq0 -[sqnorm _]add0r -[X in X + _](eqP (_ : sqnorm x^T == 0)) ?sqnorm_eq0 // zero.
  apply/eqP/rowP => k; have /eqP/colP/(_ k) := x0; have /eqP/colP/(_ k) := y0; rewrite !mxE.
  by case: (v 0 k) => a b /= -> ->.
have real : complex.Im z = 0.
  have flip : (x *m A *m y^T)^T = y *m A *m x^T by rewrite !trmx_mul trmxK symmetric mulmxA.
  have sq (u : 'rV[R]_n.+1) : u *m u^T = (sqnorm u^T)%:M by rewrite -sqnorm_mul trmxK.
  have solve (a b p q r : R) : a * p - b * r = a * p + b * q -> b * (q + r) = 0.
    have -> : b * (q + r) = a * p + b * q - (a * p - b * r) by ring.
    by move=> ->; rewrite subrr.
  have /(congr1 (fun M : 'M[R]_1 => M 0 0)) := flip.
  rewrite xA yA mulmxBl mulmxDl -!scalemxAl linearB !linearZ /= trmx_mul trmxK !sq tr_scalar_mx.
  have entry (a b r : R) (M : 'M[R]_1) : (a *: M - b *: r%:M) 0 0 = a * M 0 0 - b * r.
    by rewrite !mxE eqxx mulr1n.
  have entry' (a b q : R) (M : 'M[R]_1) : (a *: M + b *: q%:M) 0 0 = a * M 0 0 + b * q.
    by rewrite !mxE eqxx mulr1n.
  rewrite scalerN entry entry' => /solve/eqP; rewrite mulf_eq0 (negPf sizes) orbF.
  by move/eqP.
have unit_of (u : 'rV[R]_n.+1) : u *m A = complex.Re z *: u -> u^T != 0 ->
    exists a (v : 'cV[R]_n.+1), sqnorm v = 1 /\ A *m v = a *: v.
  move=> uA u0; exists (complex.Re z), ((Num.sqrt (sqnorm u^T))^-1 *: u^T).
  have s0 : sqnorm u^T != 0 by rewrite sqnorm_eq0.
  split; first by rewrite sqnorm_scale exprVn sqr_sqrtr ?sqnorm_ge0 // mulVf.
  by rewrite -scalemxAr -[A]symmetric -trmx_mul uA linearZ /= !scalerA mulrC.
have [x0|x0] := eqVneq x^T 0; last by apply: unit_of x0; rewrite xA real scale0r subr0.
apply: (unit_of y); first by rewrite yA real scale0r addr0.
have zero : sqnorm (0 : 'cV[R]_n.+1) = 0 by apply/eqP; rewrite sqnorm_eq0.
by apply: contra sizes => /eqP ->; rewrite x0 zero addr0.
Qed.

Definition extend n (O : 'M[R]_n) : 'M[R]_(1 + n) := block_mx 1%:M 0 0 O.

Lemma extend_orthogonal n (O : 'M[R]_n) : O^T *m O = 1%:M -> (extend O)^T *m extend O = 1%:M.
Proof.
move=> orthogonal; rewrite /extend tr_block_mx !trmx0 trmx1 mulmx_block.
by rewrite !mul0mx !mulmx0 mulmx1 !addr0 add0r orthogonal -scalar_mx_block.
Qed.

Lemma extend_diagonal n a (O : 'M[R]_n) (tau : 'rV[R]_n) :
  extend O *m (diag_mx (row_mx a%:M tau : 'rV[R]_(1 + n)) *m (extend O)^T) =
  block_mx a%:M 0 0 (O *m diag_mx tau *m O^T).
Proof.
rewrite diag_mx_row /extend tr_block_mx !trmx0 trmx1 !mulmx_block.
rewrite !mul0mx !mulmx0 !mulmx1 !mul1mx !addr0 !add0r mulmxA; congr block_mx; last exact: mulmx0.
by apply/matrixP => i j; rewrite !ord1 !mxE.
Qed.

Theorem spectral_theorem n (A : 'M[R]_n) : A^T = A ->
  exists (O : 'M[R]_n) (tau : 'rV[R]_n), O^T *m O = 1%:M /\ A = O *m diag_mx tau *m O^T.
Proof.
elim: n A => [|n IH] A symmetric.
  by exists 1%:M, 0; split; apply/matrixP => - [].
have [a [v [unit_v Av]]] := eigenvector symmetric.
have [P [PP first]] := orthogonal_with_column unit_v; have PP' := mulmx1C PP.
pose B : 'M[R]_(1 + n) := P^T *m A *m P.
have B_symmetric : B^T = B by rewrite /B !trmx_mul trmxK symmetric mulmxA.
have B_first : col 0 B = a *: delta_mx 0 0.
  rewrite colE /B -!mulmxA -colE first Av -scalemxAr -first colE mulmxA PP mul1mx.
  by [].
have A_turned : A = P *m B *m P^T by rewrite /B !mulmxA PP' mul1mx -mulmxA PP' mulmx1.
clearbody B.
have left_entries i : B i 0 = if i == 0 then a else 0.
  have /colP/(_ i) := B_first; rewrite !mxE => ->.
  by case: (i == 0); rewrite ?mulr1 ?mulr0.
have top_entries i : B 0 i = if i == 0 then a else 0 by rewrite -left_entries -[in LHS]B_symmetric mxE.
have rest_symmetric : (drsubmx B)^T = drsubmx B by rewrite trmx_drsub B_symmetric.
have [O1 [tau1 [OO1 B1]]] := IH _ rest_symmetric.
have B_block := split_first left_entries top_entries.
exists (P *m extend O1), (row_mx a%:M tau1 : 'rV[R]_(1 + n)); split.
  by rewrite trmx_mul mulmxA -[_ *m P^T *m P]mulmxA PP mulmx1 extend_orthogonal.
by rewrite A_turned B_block B1 -extend_diagonal trmx_mul !mulmxA.
Qed.

(* In a turned basis: v^T A v is a weighted sum of squares, and lengths stay. *)
Lemma sqnorm_turned n (O : 'M[R]_n) v : O^T *m O = 1%:M -> sqnorm (O^T *m v) = sqnorm v.
Proof.
move=> orthogonal; have scalar (a b : R) : a%:M = b%:M :> 'M_1 -> a = b.
  by move/matrixP/(_ 0 0); rewrite !mxE eqxx !mulr1n.
by apply: scalar; rewrite -!sqnorm_mul trmx_mul trmxK -mulmxA [O *m _]mulmxA (mulmx1C orthogonal) mul1mx.
Qed.

Lemma quadratic_mul n (A : 'M[R]_n) v : quadratic A v = (v^T *m A *m v) 0 0.
Proof.
rewrite mxE /quadratic exchange_big; apply: eq_bigr => k _; rewrite !mxE mulr_suml; apply: eq_bigr => j _.
by rewrite !mxE mulrAC.
Qed.

Lemma quadratic_turned n (O : 'M[R]_n) (tau : 'rV[R]_n) v :
  quadratic (O *m diag_mx tau *m O^T) v = \sum_i tau 0 i * (O^T *m v) i 0 ^+ 2.
Proof.
rewrite quadratic_mul (_ : v^T *m _ *m v = (O^T *m v)^T *m diag_mx tau *m (O^T *m v)); last first.
  by rewrite trmx_mul trmxK !mulmxA.
rewrite mxE; apply: eq_bigr => i _; rewrite mul_mx_diag !mxE.
by rewrite mulrAC mulrC expr2.
Qed.

(* So every symmetric matrix has a largest value of v^T A v over unit v: `largest` asks for nothing more. *)
Theorem largest_exists n (A : 'M[R]_n.+1) : A^T = A -> exists top, largest A top.
Proof.
move=> symmetric; have [O [tau [orthogonal ->]]] := spectral_theorem symmetric.
have [i most] : exists i, forall j, tau 0 j <= tau 0 i.
  by have [i _ most] := @arg_maxP _ _ _ (0 : 'I_n.+1) predT (fun i => tau 0 i) isT; exists i => j; apply: most.
exists (tau 0 i); split=> [v|].
  rewrite quadratic_turned -(sqnorm_turned v orthogonal) mulr_sumr; apply: ler_sum => j _.
  by rewrite ler_wpmul2r ?sqr_ge0.
exists (col i O); have image : O^T *m col i O = delta_mx i 0 by rewrite colE mulmxA orthogonal mul1mx.
rewrite -(sqnorm_turned _ orthogonal) quadratic_turned image sqnorm_delta; split=> //.
rewrite (bigD1 i) //= big1 => [|j /negPf ji]; first by rewrite mxE !eqxx expr1n mulr1 addr0.
by rewrite mxE ji expr0n mulr0.
Qed.

End Spectral.
