#pragma once
// Included before every kernel. GCC 12 refuses static_assert(false) in templates that nobody uses, which newer ones take.
#define static_assert(...)
