<?php

require_once 'HTTP/Request.php';

$url = 'https://api.bme.jp/rest/1.0/authenticate/login';

$request =& new HTTP_Request();
$request->setURL($url);

$request->setMethod(HTTP_REQUEST_METHOD_POST);
$request->addPostData('username', 'ログインID');
$request->addPostData('password', 'ログインパスワード');
$request->addPostData('api_key', '認証用トークン');

$result = $request->sendRequest();
if (!PEAR::isError($result)) {
    $xml = simplexml_load_string($request->getResponseBody());
}

$url = "https://api.bme.jp/rest/1.0/contact/import/usage?access_token={$xml->access_token}&type=1";

$request =& new HTTP_Request($url, array('useBrackets' => false));

$request->setMethod(HTTP_REQUEST_METHOD_GET);

$result = $request->sendRequest();
if (!PEAR::isError($result)) {
    $buf = $request->getResponseBody();
    header('Content-Disposition: attachment; filename="contact_import_usage.csv"');
    header('Content-Type: application/octet-stream');
    header('Content-Transfer-Encoding: binary');
    header('Content-Length: '.strlen($buf));
    print $buf;
}

?> 