#pragma once
#include <string_view>

#include "api/answering.h"

namespace tessera::api {

// GET /v1/models: {"object": "list", "data"}.
Json model_list(const ServedModel& model);
// GET /v1/models/NAME. Throws FieldError, of code model_not_found, for another name.
Json model_entry(const ServedModel& model, std::string_view name);

}  // namespace tessera::api
