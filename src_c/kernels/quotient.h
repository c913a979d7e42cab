// A division that has not been done yet. It takes as long as all other operations of a sigmoid or tanh together.
#pragma once

typedef struct quotient {
    vec above, below;
} quotient;

FR_INLINE vec vquotient(quotient q) { return vdiv(q.above, q.below); }

// a b with one division. Neither the product above nor the one below may overflow.
FR_INLINE vec vquotient_product(quotient a, quotient b) {
    return vdiv(vmul(a.above, b.above), vmul(a.below, b.below));
}
