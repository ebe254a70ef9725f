#include "api/models.h"

namespace tessera::api {
namespace {

Json entry(const ServedModel& model, std::string_view name) {
  return {{"id", name}, {"object", "model"}, {"created", model.opened()}, {"owned_by", "tessera"}, {"max_model_len", model.context()}};
}

}  // namespace

Json model_list(const ServedModel& model) {
  Json data = Json::array();
  for (const std::string& name : model.names()) data.push_back(entry(model, name));
  return {{"object", "list"}, {"data", data}};
}

Json model_entry(const ServedModel& model, std::string_view name) {
  model.expect_name(std::string(name));
  return entry(model, name);
}

}  // namespace tessera::api
