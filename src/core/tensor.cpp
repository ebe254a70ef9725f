#include "core/tensor.h"

namespace tessera {

std::ostream& operator<<(std::ostream& out, const Shape& shape) {
  return out << '[' << shape[0] << ", " << shape[1] << ", " << shape[2] << ", " << shape[3] << ']';
}

int64_t volume(const Shape& shape) { return shape[0] * shape[1] * shape[2] * shape[3]; }

}  // namespace tessera
