#include "text/jinja/meter.h"

namespace tessera::jinja {

void Meter::out_of(const char* what, size_t limit) const {
  refuse("the template takes more than ", limit, " ", what, "; it may run away, or the conversation is too long for it");
}

}  // namespace tessera::jinja
