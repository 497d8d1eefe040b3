import Coding
import HTTPClient
import PluginAPI
import Synchronization

/// What a registry wants before it answers (RFC 9110, section 11, and Docker's token authentication).
package enum AuthorizationChallenge: Hashable, Sendable {
    case basic
    case bearer(realm: String, service: String, scope: String)

    /// Reads the values of `WWW-Authenticate`; `nil` when there is nothing that we can do.
    package init?(_ values: [String]) {
        for value in values {
            let trimmed = value.drop { $0 == " " }
            let scheme = trimmed.prefix { $0 != " " }.lowercased()
            if scheme == "bearer" {
                let parameters = Self.parameters(trimmed.dropFirst(scheme.count))
                guard let realm = parameters["realm"], !realm.isEmpty else { continue }
                self = .bearer(realm: realm, service: parameters["service"] ?? "", scope: parameters["scope"] ?? "")
                return
            }
            if scheme == "basic" {
                self = .basic
                return
            }
        }
        return nil
    }

    private static func parameters(_ text: Substring) -> [String: String] {
        var result: [String: String] = [:]
        var rest = text
        while true {
            rest = rest.drop { $0 == " " || $0 == "," || $0 == "\t" }
            guard let equals = rest.firstIndex(of: "=") else { return result }
            let name = rest[..<equals].lowercased()
            rest = rest[rest.index(after: equals)...]
            var value = ""
            if rest.first == "\"" {
                rest = rest.dropFirst()
                while let character = rest.first, character != "\"" {
                    rest = rest.dropFirst()
                    if character == "\\", let escaped = rest.first {
                        value.append(escaped)
                        rest = rest.dropFirst()
                    } else {
                        value.append(character)
                    }
                }
                guard !rest.isEmpty else { return result }
                rest = rest.dropFirst()
            } else {
                value = String(rest.prefix { $0 != "," && $0 != " " })
                rest = rest.dropFirst(value.count)
            }
            result[name] = value
        }
    }
}

/// Gets tokens for a registry, and keeps them while they are good.
final class RegistryAuthorizer: Sendable {
    private struct Key: Hashable {
        var base: String
        var repository: String
        var credentials: RegistryCredentials?
    }

    private struct Token {
        var header: String
        var expiry: ContinuousClock.Instant
    }

    private let client: HTTPClient
    private let tokens = Mutex<[Key: Token]>([:])

    init(client: HTTPClient) { self.client = client }

    /// The header that worked last, if it is still good.
    func header(_ address: RegistryAddress, _ repository: String, _ credentials: RegistryCredentials?) -> String? {
        let key = Key(base: address.base, repository: repository, credentials: credentials)
        return tokens.withLock { tokens in
            guard let token = tokens[key] else { return nil }
            if token.expiry < .now {
                tokens[key] = nil
                return nil
            }
            return token.header
        }
    }

    func forget(_ address: RegistryAddress, _ repository: String, _ credentials: RegistryCredentials?) {
        tokens.withLock { $0[Key(base: address.base, repository: repository, credentials: credentials)] = nil }
    }

    /// Answers a challenge with the value of an `Authorization` field.
    func authorize(
        _ challenge: AuthorizationChallenge, _ address: RegistryAddress, _ repository: String, _ credentials: RegistryCredentials?,
        stallTimeout: Duration
    ) async throws(ApusError) -> String {
        let token: Token
        switch challenge {
        case .basic:
            guard let credentials, !credentials.username.isEmpty else {
                throw ApusError(
                    .unauthenticated,
                    "\(address.authority) asks for a name and a password; run `docker login \(address.authority)` or pass credentials")
            }
            token = Token(header: Self.basic(credentials), expiry: .now + .seconds(3600))
        case .bearer(let realm, let service, let scope):
            let needed = scope.isEmpty && !repository.isEmpty ? "repository:\(repository):pull" : scope
            token = try await fetch(realm, service, needed, address, credentials, stallTimeout)
        }
        tokens.withLock { tokens in
            if tokens.count > 1000 { tokens = [:] }
            tokens[Key(base: address.base, repository: repository, credentials: credentials)] = token
        }
        return token.header
    }

    private static func basic(_ credentials: RegistryCredentials) -> String {
        "Basic " + Base64.encode(Array("\(credentials.username):\(credentials.password)".utf8))
    }

    private func fetch(
        _ realm: String, _ service: String, _ scope: String, _ address: RegistryAddress, _ credentials: RegistryCredentials?, _ stallTimeout: Duration
    ) async throws(ApusError) -> Token {
        guard let target = RegistryAddress(url: String(realm.prefix { $0 != "?" })) else {
            throw ApusError(.corrupt, "\(address.authority) names a token server that is no URL: \(ImageReference.printable(realm))")
        }
        guard !target.isPlain || address.isPlain || address.tls.skipsVerification else {
            throw ApusError(
                .permissionDenied, "\(address.authority) names a token server without TLS, \(ImageReference.printable(realm)); nothing was sent to it"
            )
        }
        var request: HTTPRequest
        if let credentials, !credentials.identityToken.isEmpty {
            var form = [
                ("grant_type", "refresh_token"), ("service", service), ("client_id", "apus"), ("refresh_token", credentials.identityToken),
            ]
            if !scope.isEmpty { form.append(("scope", scope)) }
            let body = form.map { "\($0.0)=\(Self.escaped($0.1))" }.joined(separator: "&")
            request = HTTPRequest("POST", realm, headers: ["Content-Type": "application/x-www-form-urlencoded"], body: .bytes(Array(body.utf8)))
        } else {
            let parameters = [("service", service), ("scope", scope)].filter { !$0.1.isEmpty }
            let query = parameters.map { "\($0.0)=\(Self.escaped($0.1))" }.joined(separator: "&")
            request = HTTPRequest("GET", realm + (query.isEmpty ? "" : (realm.contains("?") ? "&" : "?") + query))
            if let credentials, !credentials.username.isEmpty { request.headers["Authorization"] = Self.basic(credentials) }
        }
        request.timeout = stallTimeout
        request.connectTimeout = .seconds(5)
        if target.authority == address.authority || address.tls.skipsVerification { request.tls = address.tls }
        let answer: HTTPResponse
        do throws(ApusError) {
            answer = try await client.send(request, limit: 1 << 20)
        } catch {
            throw error.during("no token from \(target.authority)")
        }
        if answer.status == 401 || answer.status == 403 {
            throw ApusError(
                credentials == nil ? .permissionDenied : .unauthenticated,
                credentials == nil
                    ? "\(target.authority) gives no token without a login; run `docker login \(address.authority)` or pass credentials"
                    : "\(target.authority) refuses the name or the password")
        }
        guard answer.head.isSuccess else { throw ApusError(.unavailable, "the token server \(target.authority) answered \(answer.status)") }
        guard let json = try? JSONValue.parse(answer.body), let text = json["token"]?.string ?? json["access_token"]?.string, !text.isEmpty,
            text.utf8.allSatisfy({ (33...126).contains($0) })
        else { throw ApusError(.corrupt, "the token server \(target.authority) answered without a token") }
        // A minute is what the specification gives a token that does not say.
        let seconds = min(max(json["expires_in"]?.integer ?? 60, 30), 24 * 3600)
        return Token(header: "Bearer \(text)", expiry: .now + .seconds(seconds - 10))
    }

    /// For a query or a form (RFC 3986, "unreserved").
    static func escaped(_ text: String) -> String {
        var result = ""
        let digits = Array("0123456789ABCDEF")
        for byte in text.utf8 {
            switch byte {
            case 48...57, 65...90, 97...122, 45, 46, 95, 126: result.unicodeScalars.append(Unicode.Scalar(byte))
            default: result += "%\(digits[Int(byte >> 4)])\(digits[Int(byte & 15)])"
            }
        }
        return result
    }
}
