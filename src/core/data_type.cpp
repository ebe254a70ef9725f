#include "core/data_type.h"

#include <array>
#include <utility>

#include "core/error.h"

namespace tessera {
namespace {

constexpr std::array<std::pair<DataType, std::string_view>, 5> kNames{{{DataType::float32, "float32"},
                                                                       {DataType::bfloat16, "bfloat16"},
                                                                       {DataType::bfloat8_b, "bfloat8_b"},
                                                                       {DataType::bfloat4_b, "bfloat4_b"},
                                                                       {DataType::int32, "int32"}}};

}  // namespace

std::string_view name(DataType dtype) { return kNames[static_cast<size_t>(dtype)].second; }

DataType parse_data_type(std::string_view text) {
  for (const auto& [dtype, known] : kNames)
    if (known == text && dtype != DataType::int32) return dtype;
  fail("data type '", text, "' is unknown; choose float32, bfloat16, bfloat8_b or bfloat4_b");
}

std::ostream& operator<<(std::ostream& out, DataType dtype) { return out << name(dtype); }

}  // namespace tessera
