#include <CLI/CLI.hpp>
#include <algorithm>
#include <iomanip>
#include <map>
#include <set>
#include <sstream>

#include "cli/commands.h"
#include "cli/flags.h"
#include "cli/report.h"
#include "cli/terminal.h"
#include "core/error.h"
#include "core/json.h"
#include "core/kept_file.h"
#include "kinds/memory_plan.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace tessera {
namespace {

// `tessera inspect`: what a checkpoint is and what memory it takes, from its config files and headers alone.
struct InspectOptions {
  std::string model;
  std::optional<std::string> revision;
  bool tensors = false;
  std::optional<std::string> json;
};

using OrderedJson = nlohmann::ordered_json;
constexpr DataType kWeightTypes[] = {DataType::float32, DataType::bfloat16, DataType::bfloat8_b, DataType::bfloat4_b};
constexpr DataType kCacheTypes[] = {DataType::float32, DataType::bfloat16, DataType::bfloat8_b};

const WeightSpec& find(const ModelDescription& model, std::initializer_list<Role> roles) {
  for (const ModelDescription::Weight& weight : model.weights)
    if (std::find(roles.begin(), roles.end(), weight.spec.role) != roles.end()) return weight.spec;
  fail<std::logic_error>("inspect: the model lacks an embedding, a qkv or a gate_up");
}

OrderedJson ropes_json(const ModelDescription& model) {
  OrderedJson ropes = OrderedJson::array();
  for (const auto& [layers, rope] : model.spec.ropes) {
    OrderedJson& json =
        ropes.emplace_back(OrderedJson{{"layers", layers}, {"type", rope.type}, {"theta", rope.theta}, {"rotary_dim", rope.dim}});
    if (rope.type == "linear") json["factor"] = rope.factor;
    if (rope.type == "longrope")
      json.update(OrderedJson{{"original_max_position_embeddings", rope.long_after}, {"attention_factor", rope.attention_factor}});
  }
  return ropes;
}

OrderedJson shape_json(const ModelDescription& model) {
  const auto has = [&](Role role) {
    return std::ranges::any_of(model.weights, [&](const auto& weight) { return weight.spec.role == role; });
  };
  const bool mixture = has(Role::experts_gate_up), dense = has(Role::gate_up) || has(Role::up);
  const WeightSpec& up = dense ? find(model, {Role::gate_up, Role::up}) : find(model, {Role::experts_gate_up});
  const WeightSpec& qkv = find(model, {Role::qkv});
  OrderedJson windows = OrderedJson::array();
  for (const CacheLayer& layer : model.spec.cache.layers) windows.push_back(layer.window ? OrderedJson(*layer.window) : OrderedJson());
  OrderedJson json{{"architecture", model.architecture},
                   {"layers", model.spec.cache.layers.size()},
                   {"hidden_size", find(model, {Role::embedding, Role::tied_embedding}).shape[3]},
                   {"intermediate_size", up.role == Role::up ? up.shape[2] : up.shape[2] / 2},
                   {"num_attention_heads", qkv.num_heads},
                   {"num_key_value_heads", qkv.num_kv_heads},
                   {"head_dim", qkv.head_dim},
                   {"windows", windows},
                   {"vocab_size", model.spec.vocab_size},
                   {"tied", model.spec.tied},
                   {"max_position_embeddings", model.spec.max_position_embeddings},
                   {"ropes", ropes_json(model)}};
  if (mixture) {
    const WeightSpec& experts = find(model, {Role::experts_gate_up});
    json["num_experts"] = experts.shape[1];
    json["moe_intermediate_size"] = experts.shape[2] / 2;
  }
  return json;
}

OrderedJson tensors_json(const ModelDescription& model, bool list) {
  OrderedJson types = OrderedJson::object(), all = OrderedJson::array();
  uint64_t bytes = 0;
  for (const StoredTensor& tensor : model.tensors) {
    OrderedJson& type = types[tensor.dtype];
    if (type.is_null()) type = {{"tensors", 0}, {"bytes", 0}};
    type["tensors"] = type["tensors"].get<int64_t>() + 1;
    type["bytes"] = type["bytes"].get<uint64_t>() + tensor.bytes;
    bytes += tensor.bytes;
    if (list) all.push_back({{"name", tensor.name}, {"dtype", tensor.dtype}, {"shape", tensor.shape}, {"bytes", tensor.bytes}});
  }
  OrderedJson json{{"count", model.tensors.size()}, {"bytes", bytes}, {"dtypes", types}};
  if (list) json["list"] = all;
  return json;
}

OrderedJson weights_json(const ModelDescription& model) {
  OrderedJson json;
  for (const DataType type : kWeightTypes) json[std::string(name(type))] = weight_bytes(device_kind("cpu"), model, type);
  return json;
}

// Of one sequence, when it has filled its context.
OrderedJson cache_json(const ModelDescription& model) {
  const int64_t longest = std::min(model.spec.max_position_embeddings, kLongestContext);
  std::set<int64_t> contexts{longest};
  for (const int64_t context : {1 << 10, 1 << 12, 1 << 15}) contexts.insert(std::min<int64_t>(context, longest));
  OrderedJson all = OrderedJson::array();
  for (const int64_t context : contexts) {
    OrderedJson& json = all.emplace_back(OrderedJson{{"context", context}});
    for (const DataType type : kCacheTypes)
      json[std::string(name(type))] = cache_bytes(device_kind("cpu"), model.spec.cache, type, context, 1);
  }
  return all;
}

// The special tokens with their texts, which are null when no tokenizer tells.
class TokenNames {
 public:
  TokenNames(const Checkpoint& checkpoint, std::vector<std::string>& notes) {
    try {
      tokenizer_.emplace(Tokenizer::load(checkpoint.tokenizer().string(), kept_folder(), checkpoint.model_type()));
    } catch (const FileError& error) {
      notes.push_back(error.what());
    }
  }

  OrderedJson json(std::optional<TokenId> id) const {
    if (!id) return {};
    const bool known = tokenizer_ && tokenizer_->has_token(*id);
    return {{"id", *id}, {"text", known ? OrderedJson(tokenizer_->id_to_token(*id)) : OrderedJson()}};
  }

 private:
  std::optional<Tokenizer> tokenizer_;
};

OrderedJson generation_json(const GenerationConfig& config, const TokenNames& names) {
  OrderedJson ends = OrderedJson::array();
  for (const TokenId id : config.tokens.eos) ends.push_back(names.json(id));
  return {{"eos", ends},
          {"bos", names.json(config.tokens.bos)},
          {"pad", names.json(config.tokens.pad)},
          {"do_sample", config.do_sample},
          {"temperature", config.temperature},
          {"top_k", config.top_k},
          {"top_p", config.top_p},
          {"min_p", config.min_p},
          {"repetition_penalty", config.repetition_penalty}};
}

std::string token_text(const OrderedJson& token) {
  if (token.is_null()) return "none";
  return token["text"].is_null() ? token["id"].dump()
                                 : message(token["id"].dump(), ' ', printable(token["text"].get_ref<const std::string&>()));
}

std::string tokens_text(const OrderedJson& tokens) {
  std::string text;
  for (const OrderedJson& token : tokens) text += (text.empty() ? "" : ", ") + token_text(token);
  return text.empty() ? "none" : text;
}

// "18, 15 of them with a window of 512"
std::string layers_text(const OrderedJson& facts) {
  std::map<int64_t, int64_t> windows;
  for (const OrderedJson& window : facts["windows"])
    if (!window.is_null()) ++windows[window.get<int64_t>()];
  std::string text = facts["layers"].dump();
  for (const auto& [window, layers] : windows) text += message(", ", layers, " of them with a window of ", window);
  return text;
}

std::string ropes_text(const OrderedJson& ropes) {
  std::ostringstream text;
  text.precision(12);
  for (const OrderedJson& rope : ropes) {
    text << (text.tellp() > 0 ? "; " : "") << rope["layers"].get<std::string>() << " layers " << rope["type"].get<std::string>()
         << ", theta " << rope["theta"].get<double>() << ", " << rope["rotary_dim"] << " values";
    if (rope.contains("factor")) text << ", factor " << rope["factor"].get<double>();
    if (rope.contains("attention_factor"))
      text << ", long factors after " << rope["original_max_position_embeddings"] << " tokens, attention factor "
           << rope["attention_factor"].get<double>();
  }
  return text.str();
}

std::string generation_text(const OrderedJson& generation) {
  std::ostringstream text;
  text << (generation["do_sample"].get<bool>() ? "sampling" : "greedy; if sampling") << ", temperature "
       << generation["temperature"].get<double>() << ", top_k " << generation["top_k"] << ", top_p " << generation["top_p"].get<double>()
       << ", min_p " << generation["min_p"].get<double>() << ", repetition_penalty " << generation["repetition_penalty"].get<double>();
  return text.str();
}

std::string memory_text(const OrderedJson& facts) {
  std::ostringstream text;
  text << "\nmemory of the weights\n";
  for (const auto& [type, bytes] : facts["weights_bytes"].items())
    text << "  " << std::left << std::setw(12) << type << std::right << std::setw(12) << size_text(bytes.get<size_t>()) << '\n';
  text << "\nmemory of one sequence's cache\n  context     ";
  for (const DataType type : kCacheTypes) text << std::setw(12) << name(type);
  text << '\n';
  for (const OrderedJson& row : facts["cache_bytes"]) {
    text << "  " << std::left << std::setw(12) << row["context"].dump() << std::right;
    for (const DataType type : kCacheTypes) text << std::setw(12) << size_text(row[std::string(name(type))].get<size_t>());
    text << '\n';
  }
  return text.str();
}

// Where the chat template stands, whose messages it knows, and whether it takes tools; null: there is none.
OrderedJson chat_template_json(const Checkpoint& checkpoint, std::vector<std::string>& notes) {
  const std::optional<ChatFiles::Template> file = checkpoint.chat_files(Checkpoint::Tools::absent).chat_template;
  if (!file) return nullptr;
  OrderedJson facts{{"place", file->place}, {"roles", OrderedJson::array()}, {"tools", false}};
  try {
    const ChatTemplate chat(file->text, file->place, {});
    facts["roles"] = chat.roles();
    facts["tools"] = chat.takes_tools();
  } catch (const FileError& error) {
    notes.push_back(error.what());
  }
  return facts;
}

std::string chat_template_text(const OrderedJson& facts) {
  if (facts.is_null()) return "none";
  std::string text = one_line(facts["place"].get<std::string>());
  for (const OrderedJson& role : facts["roles"]) text += (role == facts["roles"][0] ? "; roles " : ", ") + role.get<std::string>();
  return text + (facts["tools"].get<bool>() ? "; takes tools" : "");
}

std::string text_of(const OrderedJson& facts) {
  const OrderedJson& tensors = facts["tensors"];
  const OrderedJson& generation = facts["generation"];
  std::ostringstream text;
  const auto line = [&](const char* title, const std::string& value) { text << std::left << std::setw(16) << title << value << '\n'; };
  line("directory", one_line(facts["directory"].get<std::string>()));
  line("architecture", facts["architecture"].get<std::string>());
  line("layers", layers_text(facts));
  line("hidden size",
       message(facts["hidden_size"], ", intermediate ", facts["intermediate_size"],
               facts.contains("num_experts") ? message(", ", facts["num_experts"], " experts of ", facts["moe_intermediate_size"]) : ""));
  line("heads",
       message(facts["num_attention_heads"], " of ", facts["head_dim"], " values, ", facts["num_key_value_heads"], " of keys and values"));
  line("vocabulary", message(facts["vocab_size"], facts["tied"].get<bool>() ? ", the head tied to the embedding" : ", a head of its own"));
  line("context", facts["max_position_embeddings"].dump());
  line("rope", ropes_text(facts["ropes"]));
  line("parameters", facts["parameters"].dump());
  for (const auto& [dtype, held] : tensors["dtypes"].items())
    line("tensors", message(held["tensors"], " in ", dtype, ", ", size_text(held["bytes"].get<size_t>())));
  line("chat template", chat_template_text(facts["chat_template"]));
  line("end tokens", tokens_text(generation["eos"]));
  line("begin token", token_text(generation["bos"]));
  line("padding token", token_text(generation["pad"]));
  line("generation", generation_text(generation));
  text << memory_text(facts);
  if (tensors.contains("list")) text << "\ntensors\n";
  for (const OrderedJson& tensor : tensors.value("list", OrderedJson::array()))
    text << "  " << printable(tensor["name"].get_ref<const std::string&>()) << ' ' << tensor["dtype"].get<std::string>() << ' '
         << tensor["shape"].dump() << ' ' << tensor["bytes"] << '\n';
  for (const OrderedJson& note : facts["notes"]) text << "\nnote: " << one_line(note.get<std::string>()) << '\n';
  return text.str();
}

int inspect(const InspectOptions& options) {
  Report report(options.json);
  const Checkpoint checkpoint = Checkpoint::open(options.model, options.revision);
  ModelDescription model = describe_model(checkpoint);
  const TokenNames names(checkpoint, model.notes);
  OrderedJson facts{{"command", "inspect"}, {"directory", checkpoint.directory().string()}};
  facts.update(shape_json(model));
  facts["parameters"] = parameters(model);
  facts["tensors"] = tensors_json(model, options.tensors);
  facts["chat_template"] = chat_template_json(checkpoint, model.notes);
  facts["generation"] = generation_json(model.generation, names);
  facts["weights_bytes"] = weights_json(model);
  facts["cache_bytes"] = cache_json(model);
  for (const std::string& note : model.generation.notes) model.notes.push_back(note);
  for (const std::string& field : model.generation.unsupported) model.notes.push_back(field + "; run and chat refuse it");
  facts["notes"] = model.notes;
  report.set(facts);
  report.print(text_of(facts));
  report.finish();
  return 0;
}

}  // namespace

void add_inspect(CLI::App& app, int& code) {
  CLI::App& command = *app.add_subcommand("inspect", "Tell what a checkpoint is and what memory it takes");
  const auto options = std::make_shared<InspectOptions>();
  command.callback([options, &code] { code = inspect(*options); });
  add_checkpoint_flags(command, options->model, options->revision);
  command.add_flag("--tensors", options->tensors, "List all tensors");
  add_json_flag(command, options->json);
}

}  // namespace tessera
