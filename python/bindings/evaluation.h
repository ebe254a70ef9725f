#pragma once
#include "evaluate/reference.h"

namespace tessera::python {

// A Reference that Python has put together: throws std::invalid_argument unless its lists go together.
void check_lists(const Reference& reference);

}  // namespace tessera::python
