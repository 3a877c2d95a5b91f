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


$url = 'https://api.bme.jp/rest/1.0/contact/import/all';

$request =& new HTTP_Request($url, array('useBrackets' => false));

$request->setMethod(HTTP_REQUEST_METHOD_POST);
$request->addFile('import', './all.csv', 'Content-Type: text/plain');
$request->addPostData('access_token', $xml->access_token);

$result = $request->sendRequest();
if (!PEAR::isError($result)) {
    echo $request->getResponseBody();
}

?> 