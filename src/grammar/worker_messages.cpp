#include "grammar/worker_messages.h"

#include "grammar/byte_stream.h"

namespace tessera::grammar {

std::string write_vocabulary(const GrammarVocabulary& vocabulary) {
  Writer out;
  out.number(vocabulary.vocab_size());
  out.list(vocabulary.end_tokens());
  out.number(static_cast<int64_t>(vocabulary.tokens().size()));
  for (const std::string& token : vocabulary.tokens()) out.text(token);
  return out.take();
}

GrammarVocabulary read_vocabulary(const std::string& bytes) {
  Reader in(bytes);
  const int64_t vocab_size = in.number();
  const std::vector<TokenId> end_tokens = in.list<TokenId>();
  std::vector<std::string> tokens(static_cast<size_t>(in.number_in(0, static_cast<int64_t>(bytes.size()))));
  for (std::string& token : tokens) token = in.text();
  in.end();
  return {std::move(tokens), vocab_size, end_tokens};
}

std::string write_request(const Request& request) {
  Writer out;
  out.number(static_cast<int64_t>(request.source.kind));
  out.number(request.source.strict);
  for (const int64_t limit : {request.limits.cpu_seconds, request.limits.memory_bytes, request.limits.result_bytes}) out.number(limit);
  out.text(request.source.text);
  return out.take();
}

Request read_request(const std::string& bytes) {
  Reader in(bytes);
  Request request;
  request.source.kind = static_cast<GrammarSource::Kind>(in.number_in(0, static_cast<int64_t>(GrammarSource::Kind::structural_tag) + 1));
  request.source.strict = in.number() != 0;
  for (int64_t* limit : {&request.limits.cpu_seconds, &request.limits.memory_bytes, &request.limits.result_bytes}) *limit = in.number();
  request.source.text = in.text();
  in.end();
  return request;
}

std::string write_reply(const Reply& reply) {
  Writer out;
  out.number(reply.is_refused);
  out.text(reply.text);
  return out.take();
}

Reply read_reply(const std::string& bytes) {
  Reader in(bytes);
  Reply reply{in.number() != 0, in.text()};
  in.end();
  return reply;
}

}  // namespace tessera::grammar
