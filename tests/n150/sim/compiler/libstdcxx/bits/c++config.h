#pragma once
// The host's configuration of libstdc++, less what a core without an operating system has not.
#include_next <bits/c++config.h>
#undef _GLIBCXX_HAS_GTHREADS
#undef _GLIBCXX_HAVE_LINUX_FUTEX
#undef _GLIBCXX_USE_FLOAT128
#undef _GLIBCXX_HAVE_GETS
#undef _GLIBCXX_USE_C99_STDIO
