// A division that has not been done yet. It takes as long as all other operations of a sigmoid or tanh together, and two that end
// in one product can share it.
#pragma once

typedef struct quotient {
    vec above, below;
} quotient;

FR_INLINE vec vquotient(quotient q) { return vdiv(q.above, q.below); }

// Returns a b, and each of them by itself: three roundings more than a division each. Neither a.below b.below nor
// a.above b.above may overflow. A NaN of one makes all NaN.
FR_INLINE vec vquotients(quotient a, quotient b, vec *va, vec *vb) {
    const vec shared = vdiv(vset1(1), vmul(a.below, b.below));
    *va = vmul(vmul(a.above, b.below), shared);
    *vb = vmul(vmul(b.above, a.below), shared);
    return vmul(vmul(a.above, b.above), shared);
}
